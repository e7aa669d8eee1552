package scenarios

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

var open = zk.WorldACL(zk.PermAll)

func TestEachErrorHasItsCode(t *testing.T) {
	conn := startServer(t).connect()
	create(t, conn, "/a", "", 0)
	create(t, conn, "/a/b", "", 0)
	create(t, conn, "/e", "", zk.FlagEphemeral)
	_, err := conn.Create("/a", nil, 0, open)
	expect(t, err, zk.ErrNodeExists)
	_, err = conn.Create("/no/b", nil, 0, open)
	expect(t, err, zk.ErrNoNode)
	_, err = conn.Create("/e/x", nil, 0, open)
	expect(t, err, zk.ErrNoChildrenForEphemerals)
	_, err = conn.Set("/a", nil, 5)
	expect(t, err, zk.ErrBadVersion)
	expect(t, conn.Delete("/a", 5), zk.ErrBadVersion)
	expect(t, conn.Delete("/a", -1), zk.ErrNotEmpty)
	expect(t, conn.Delete("/no", -1), zk.ErrNoNode)
	_, _, err = conn.Children("/no")
	expect(t, err, zk.ErrNoNode)
	_, err = conn.Create("/x", nil, 0, []zk.ACL{{Perms: zk.PermAll, Scheme: "nonesuch", ID: "x"}})
	expect(t, err, zk.ErrInvalidACL)
	_, err = conn.Create("/x", nil, 0, []zk.ACL{})
	expect(t, err, zk.ErrInvalidACL)
}

func TestStatsCountWhatHappened(t *testing.T) {
	conn := startServer(t).connect()
	create(t, conn, "/a", "one", 0)
	create(t, conn, "/a/b", "", 0)
	must(t, conn.Delete("/a/b", 0))
	stat, err := conn.Set("/a", []byte("seven"), 0)
	must(t, err)
	if stat.Version != 1 || stat.Cversion != 2 || stat.NumChildren != 0 || stat.DataLength != 5 {
		t.Fatalf("%+v", stat)
	}
	if !(stat.Czxid < stat.Pzxid && stat.Pzxid < stat.Mzxid && stat.Ctime <= stat.Mtime) {
		t.Fatalf("%+v", stat)
	}
}

func TestSequencesCountPerParent(t *testing.T) {
	conn := startServer(t).connect()
	create(t, conn, "/a", "", 0)
	for i := 0; i < 5; i++ {
		if path := create(t, conn, "/a/n-", "", zk.FlagEphemeralSequential); path != fmt.Sprintf("/a/n-%010d", i) {
			t.Fatal(path)
		}
	}
	must(t, conn.Delete("/a/n-0000000004", -1))
	if path := create(t, conn, "/a/m-", "", zk.FlagSequence); path != "/a/m-0000000005" {
		t.Fatal(path)
	}
}

func TestProtectedEphemeralsCarryTheirGuid(t *testing.T) {
	conn := startServer(t).connect()
	create(t, conn, "/locks", "", 0)
	path, err := conn.CreateProtectedEphemeralSequential("/locks/lock-", []byte("x"), open)
	must(t, err)
	if !strings.HasPrefix(path, "/locks/_c_") || !strings.HasSuffix(path, "-lock-0000000000") {
		t.Fatal(path)
	}
}

func TestMultiIsAllOrNothing(t *testing.T) {
	conn := startServer(t).connect()
	results, err := conn.Multi(
		&zk.CreateRequest{Path: "/a", Data: []byte("x"), Acl: open},
		&zk.CreateRequest{Path: "/a/n-", Acl: open, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: "/a", Data: []byte("y"), Version: 0},
		&zk.CheckVersionRequest{Path: "/a", Version: 1},
		&zk.DeleteRequest{Path: "/a/n-0000000000", Version: -1},
	)
	must(t, err)
	if results[0].String != "/a" || results[1].String != "/a/n-0000000000" || results[2].Stat.Version != 1 {
		t.Fatalf("%+v", results)
	}
	results, err = conn.Multi(
		&zk.CreateRequest{Path: "/b", Acl: open},
		&zk.CheckVersionRequest{Path: "/a", Version: 9},
		&zk.DeleteRequest{Path: "/a", Version: -1},
	)
	expect(t, err, zk.ErrBadVersion)
	if len(results) != 3 || results[0].Error != nil || results[1].Error != zk.ErrBadVersion || results[2].Error == nil {
		t.Fatalf("%+v", results)
	}
	if exists(t, conn, "/b") || !exists(t, conn, "/a") {
		t.Fatal("a failed transaction left traces")
	}
	for _, failing := range []struct {
		op     interface{}
		wanted error
	}{
		{&zk.DeleteRequest{Path: "/no", Version: -1}, zk.ErrNoNode},
		{&zk.CreateRequest{Path: "/a", Acl: open}, zk.ErrNodeExists},
		{&zk.CheckVersionRequest{Path: "/no", Version: -1}, zk.ErrNoNode},
		{&zk.CreateRequest{Path: "/c", Acl: nil}, zk.ErrInvalidACL},
	} {
		_, err := conn.Multi(&zk.CreateRequest{Path: "/b", Acl: open}, failing.op)
		expect(t, err, failing.wanted)
	}
}

func TestTransactionsCompeteByVersion(t *testing.T) {
	s := startServer(t)
	create(t, s.connect(), "/counter", "", 0)
	const clients, rounds = 4, 25
	var group sync.WaitGroup
	for i := 0; i < clients; i++ {
		conn := s.connect()
		group.Add(1)
		go func() {
			defer group.Done()
			for done := 0; done < rounds; {
				_, stat, err := conn.Get("/counter")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = conn.Multi(
					&zk.CheckVersionRequest{Path: "/counter", Version: stat.Version},
					&zk.SetDataRequest{Path: "/counter", Data: []byte("x"), Version: -1},
					&zk.CreateRequest{Path: "/done-", Acl: open, Flags: zk.FlagSequence},
				)
				if err == nil {
					done++
				} else if err != zk.ErrBadVersion {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	conn := s.connect()
	_, stat, err := conn.Get("/counter")
	must(t, err)
	if stat.Version != clients*rounds {
		t.Fatalf("version %d", stat.Version)
	}
	children, _, err := conn.Children("/")
	must(t, err)
	if len(children) != clients*rounds+2 {
		t.Fatalf("%d children", len(children))
	}
}

func TestPermissions(t *testing.T) {
	s := startServer(t)
	owner, other := s.connect(), s.connect()
	_, err := owner.Create("/mine", nil, 0, zk.AuthACL(zk.PermAll))
	expect(t, err, zk.ErrInvalidACL)
	must(t, owner.AddAuth("digest", []byte("user:secret")))
	_, err = owner.Create("/mine", []byte("x"), 0, zk.AuthACL(zk.PermAll))
	must(t, err)
	acls, stat, err := owner.GetACL("/mine")
	must(t, err)
	if wanted := zk.DigestACL(zk.PermAll, "user", "secret"); len(acls) != 1 || acls[0] != wanted[0] || stat.Aversion != 0 {
		t.Fatalf("%+v %+v", acls, stat)
	}
	for _, call := range []func() error{
		func() error { _, _, err := other.Get("/mine"); return err },
		func() error { _, err := other.Set("/mine", nil, -1); return err },
		func() error { _, _, err := other.Children("/mine"); return err },
		func() error { _, err := other.Create("/mine/x", nil, 0, open); return err },
		func() error { _, err := other.SetACL("/mine", open, -1); return err },
		func() error { _, _, err := other.GetACL("/mine"); return err },
		func() error { _, err := other.Multi(&zk.SetDataRequest{Path: "/mine", Version: -1}); return err },
	} {
		expect(t, call(), zk.ErrNoAuth)
	}
	_, err = owner.SetACL("/mine", open, 7)
	expect(t, err, zk.ErrBadVersion)
	stat, err = owner.SetACL("/mine", zk.WorldACL(zk.PermRead), 0)
	must(t, err)
	if stat.Aversion != 1 {
		t.Fatalf("%+v", stat)
	}
	_, _, err = other.Get("/mine")
	must(t, err)
	_, err = owner.Set("/mine", nil, -1)
	expect(t, err, zk.ErrNoAuth)
}

func TestUnknownSchemeFailsAuthentication(t *testing.T) {
	conn := startServer(t).connect()
	expect(t, conn.AddAuth("nonesuch", []byte("x")), zk.ErrAuthFailed)
}

func TestContainersGoWhenTheyBecomeEmpty(t *testing.T) {
	conn := startServer(t, reaper...).connect()
	for _, path := range []string{"/used", "/fresh"} {
		_, err := conn.CreateContainer(path, nil, zk.FlagContainer, open)
		must(t, err)
	}
	create(t, conn, "/used/child", "", 0)
	time.Sleep(700 * time.Millisecond)
	if !exists(t, conn, "/used") {
		t.Fatal("a container with a child is gone")
	}
	must(t, conn.Delete("/used/child", -1))
	eventually(t, "an emptied container is removed", func() bool { return !exists(t, conn, "/used") })
	if !exists(t, conn, "/fresh") {
		t.Fatal("a container that never had a child is gone")
	}
}

func TestZnodesWithATtlExpire(t *testing.T) {
	conn := startServer(t, reaper...).connect()
	_, err := conn.CreateTTL("/short", nil, zk.FlagTTL, open, 300*time.Millisecond)
	must(t, err)
	_, err = conn.CreateTTL("/long", nil, zk.FlagTTL, open, time.Minute)
	must(t, err)
	path, err := conn.CreateTTL("/n-", nil, zk.FlagPersistentSequentialWithTTL, open, 300*time.Millisecond)
	must(t, err)
	if !strings.HasPrefix(path, "/n-000000000") {
		t.Fatal(path)
	}
	_, _, gone, err := conn.ExistsW("/short")
	must(t, err)
	expectEvent(t, gone, zk.EventNodeDeleted, "/short")
	eventually(t, "the sequential one expires", func() bool { return !exists(t, conn, path) })
	if !exists(t, conn, "/long") {
		t.Fatal("it expired before its time")
	}
}

func TestEphemeralsStayOverAReconnectAndGoWithTheSession(t *testing.T) {
	s := startServer(t)
	owner, other := s.connect(), s.connect()
	create(t, owner, "/e", "", zk.FlagEphemeral)
	id := owner.SessionID()
	s.restart()
	// The first request after the loss may be told of it.
	eventually(t, "the owner is served again", func() bool { _, _, err := owner.Exists("/e"); return err == nil })
	eventually(t, "the other is served again", func() bool { _, _, err := other.Exists("/e"); return err == nil })
	if owner.SessionID() != id {
		t.Fatal("the owner has another session")
	}
	_, stat, gone, err := other.ExistsW("/e")
	must(t, err)
	if stat.EphemeralOwner != id {
		t.Fatalf("%+v", stat)
	}
	owner.Close()
	expectEvent(t, gone, zk.EventNodeDeleted, "/e")
}

func TestWatchesAreSetAgainAfterARestart(t *testing.T) {
	s := startServer(t)
	conn := s.connect()
	create(t, conn, "/a", "", 0)
	_, _, data, err := conn.GetW("/a")
	must(t, err)
	_, _, children, err := conn.ChildrenW("/a")
	must(t, err)
	_, _, created, err := conn.ExistsW("/b")
	must(t, err)
	s.restart()
	writer := s.connect()
	_, err = writer.Set("/a", []byte("x"), -1)
	must(t, err)
	create(t, writer, "/b", "", 0)
	create(t, writer, "/a/x", "", 0)
	expectEvent(t, data, zk.EventNodeDataChanged, "/a")
	expectEvent(t, created, zk.EventNodeCreated, "/b")
	expectEvent(t, children, zk.EventNodeChildrenChanged, "/a")
}

func TestWatchesFireOnce(t *testing.T) {
	s := startServer(t)
	conn, writer := s.connect(), s.connect()
	create(t, conn, "/a", "", 0)
	_, _, data, err := conn.GetW("/a")
	must(t, err)
	_, _, children, err := conn.ChildrenW("/a")
	must(t, err)
	create(t, writer, "/a/b", "", 0)
	expectEvent(t, children, zk.EventNodeChildrenChanged, "/a")
	expectNoEvent(t, conn, data)
	_, err = writer.Set("/a", []byte("x"), -1)
	must(t, err)
	expectEvent(t, data, zk.EventNodeDataChanged, "/a")
	_, _, data, err = conn.GetW("/a")
	must(t, err)
	_, err = writer.Multi(&zk.DeleteRequest{Path: "/a/b", Version: -1}, &zk.DeleteRequest{Path: "/a", Version: -1})
	must(t, err)
	expectEvent(t, data, zk.EventNodeDeleted, "/a")
}

func TestLocksPassFromOneToTheNext(t *testing.T) {
	s := startServer(t)
	const clients, rounds = 5, 4
	var group sync.WaitGroup
	var mutex sync.Mutex
	holders, entered := 0, 0
	for i := 0; i < clients; i++ {
		conn := s.connect()
		group.Add(1)
		go func() {
			defer group.Done()
			for round := 0; round < rounds; round++ {
				lock := zk.NewLock(conn, "/locks/one", open)
				if err := lock.Lock(); err != nil {
					t.Error(err)
					return
				}
				mutex.Lock()
				holders++
				entered++
				if holders != 1 {
					t.Errorf("%d hold the lock", holders)
				}
				mutex.Unlock()
				time.Sleep(time.Millisecond)
				mutex.Lock()
				holders--
				mutex.Unlock()
				if err := lock.Unlock(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	if entered != clients*rounds {
		t.Fatalf("entered %d times", entered)
	}
}

func TestALockIsFreedByItsHoldersEnd(t *testing.T) {
	s := startServer(t)
	holder, waiting := s.connect(), s.connect()
	must(t, zk.NewLock(holder, "/lock", open).Lock())
	taken := make(chan error, 1)
	go func() { taken <- zk.NewLock(waiting, "/lock", open).Lock() }()
	select {
	case <-taken:
		t.Fatal("two hold the lock")
	case <-time.After(300 * time.Millisecond):
	}
	holder.Close()
	select {
	case err := <-taken:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("the lock was not freed")
	}
}

func TestManyGoroutinesShareOneConnection(t *testing.T) {
	conn := startServer(t).connect()
	create(t, conn, "/q", "", 0)
	const goroutines, each = 50, 20
	paths := make(chan string, goroutines*each)
	var group sync.WaitGroup
	for i := 0; i < goroutines; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < each; j++ {
				path, err := conn.Create("/q/n-", []byte("x"), zk.FlagSequence, open)
				if err != nil {
					t.Error(err)
					return
				}
				paths <- path
			}
		}()
	}
	group.Wait()
	close(paths)
	var got []string
	for path := range paths {
		got = append(got, path)
	}
	sort.Strings(got)
	for i, path := range got {
		if wanted := fmt.Sprintf("/q/n-%010d", i); path != wanted {
			t.Fatalf("%s, expected %s", path, wanted)
		}
	}
	if len(got) != goroutines*each {
		t.Fatalf("%d paths", len(got))
	}
}

func TestLargeData(t *testing.T) {
	conn := startServer(t).connect()
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	_, err := conn.Create("/big", data, 0, open)
	must(t, err)
	got, _, err := conn.Get("/big")
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("other data came back")
	}
}

func TestSyncMakesReadsFresh(t *testing.T) {
	s := startServer(t)
	writer, reader := s.connect(), s.connect()
	create(t, writer, "/a", "", 0)
	for i := int32(1); i <= 100; i++ {
		_, err := writer.Set("/a", []byte("x"), -1)
		must(t, err)
		path, err := reader.Sync("/a")
		must(t, err)
		_, stat, err := reader.Get("/a")
		must(t, err)
		if stat.Version != i || path != "/a" {
			t.Fatalf("version %d after %d writes; %s", stat.Version, i, path)
		}
	}
}

func TestAStandaloneServerRefusesToReconfigure(t *testing.T) {
	conn := startServer(t).connect()
	_, err := conn.IncrementalReconfig(nil, []string{"1"}, -1)
	expect(t, err, zk.ErrReconfigDisabled)
	data, _, err := conn.Get("/zookeeper/config")
	must(t, err)
	if len(data) != 0 {
		t.Fatalf("%q", data)
	}
}

func TestFourLetterWords(t *testing.T) {
	s := startServer(t)
	conn := s.connect()
	create(t, conn, "/a", "", 0)
	if !zk.FLWRuok([]string{s.address()}, patience)[0] {
		t.Fatal("ruok is not answered")
	}
	if srvr := s.ask("srvr"); !strings.Contains(srvr, "Mode: standalone\nNode count: 6\n") {
		t.Fatalf("srvr does not show the znode that was created:\n%s", srvr)
	}
}
