// Package scenarios holds what go-zookeeper's own tests leave out: every test starts a server of its own.
package scenarios

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	tickMs         = 500
	sessionTimeout = 8 * time.Second
	// What anything may take that a test waits for.
	patience = 15 * time.Second
)

// Containers and expired znodes are looked for five times a second, and TTLs are allowed.
var reaper = []string{"-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=200"}

type server struct {
	t       *testing.T
	flags   []string
	folder  string
	port    int
	process *exec.Cmd
}

// startServer returns when requests are answered; the test's end stops it.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	s := &server{t: t, flags: flags, folder: t.TempDir(), port: freePort(t)}
	data := filepath.Join(s.folder, "data")
	must(t, os.Mkdir(data, 0o700))
	config := fmt.Sprintf("tickTime=%d\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"+
		"4lw.commands.whitelist=*\nadmin.enableServer=false\n%s\n", tickMs, data, s.port, os.Getenv("ZORILLA_CONF"))
	must(t, os.WriteFile(filepath.Join(s.folder, "zoo.cfg"), []byte(config), 0o600))
	t.Cleanup(func() {
		if s.process != nil {
			s.kill()
		}
	})
	s.start()
	return s
}

// freePort is one below those that the system gives to outgoing connections: no client can take it while the server
// is down.
func freePort(t *testing.T) int {
	for attempt := 0; attempt < 1000; attempt++ {
		port := 24000 + (os.Getpid()*7+attempt)%1000
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (s *server) address() string {
	return fmt.Sprintf("127.0.0.1:%d", s.port)
}

func (s *server) start() {
	s.t.Helper()
	words := append(strings.Fields(os.Getenv("ZORILLA")), "server")
	words = append(append(words, s.flags...), filepath.Join(s.folder, "zoo.cfg"))
	log, err := os.OpenFile(filepath.Join(s.folder, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(s.t, err)
	defer log.Close()
	s.process = exec.Command(words[0], words[1:]...)
	s.process.Stdout, s.process.Stderr = log, log
	must(s.t, s.process.Start())
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		if strings.HasPrefix(s.ask("srvr"), "Zookeeper version: ") {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.folder, "server.log"))
			s.t.Fatalf("the server does not serve; its log:\n%s", text)
		}
	}
}

// ask sends a four-letter word and returns the answer, or nothing if there is none.
func (s *server) ask(word string) string {
	conn, err := net.DialTimeout("tcp", s.address(), time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	conn.Write([]byte(word))
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// kill is a crash of the process.
func (s *server) kill() {
	s.process.Process.Kill()
	s.process.Wait()
	s.process = nil
}

func (s *server) restart() {
	s.t.Helper()
	s.kill()
	s.start()
}

type quiet struct{}

func (quiet) Printf(string, ...interface{}) {}

// connect returns a client whose session is established; the test's end closes it.
func (s *server) connect() *zk.Conn {
	s.t.Helper()
	conn, events, err := zk.Connect([]string{s.address()}, sessionTimeout, zk.WithLogger(quiet{}))
	must(s.t, err)
	s.t.Cleanup(conn.Close)
	waitForSession(s.t, events)
	go func() {
		for range events {
		}
	}()
	return conn
}

func waitForSession(t *testing.T, events <-chan zk.Event) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return
			}
		case <-late:
			t.Fatal("no session")
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, got, wanted error) {
	t.Helper()
	if got != wanted {
		t.Fatalf("%v, expected %v", got, wanted)
	}
}

func create(t *testing.T, conn *zk.Conn, path string, data string, flags int32) string {
	t.Helper()
	made, err := conn.Create(path, []byte(data), flags, zk.WorldACL(zk.PermAll))
	must(t, err)
	return made
}

func exists(t *testing.T, conn *zk.Conn, path string) bool {
	t.Helper()
	found, _, err := conn.Exists(path)
	must(t, err)
	return found
}

// eventually polls until it holds: for what happens on the server's own time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func expectEvent(t *testing.T, events <-chan zk.Event, kind zk.EventType, path string) {
	t.Helper()
	select {
	case event := <-events:
		if event.Type != kind || event.Path != path || event.Err != nil {
			t.Fatalf("%+v, expected %v for %s", event, kind, path)
		}
	case <-time.After(patience):
		t.Fatalf("no event, expected %v for %s", kind, path)
	}
}

// expectNoEvent asks the server something: events before the answer would have arrived before it.
func expectNoEvent(t *testing.T, conn *zk.Conn, events <-chan zk.Event) {
	t.Helper()
	exists(t, conn, "/")
	select {
	case event := <-events:
		t.Fatalf("%+v, expected no event", event)
	default:
	}
}
