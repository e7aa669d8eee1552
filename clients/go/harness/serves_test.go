package zk

import (
	"strings"
	"time"
)

// serves says whether every server answers `srvr` as one that serves. Joined to go-zookeeper's tests by our run
// script: their own question, FLWSrvr, wants the month first in the date of the build, as servers before 3.6 wrote it,
// and so takes every later one (Java's too) for one that never started.
func serves(addresses []string) bool {
	for _, address := range addresses {
		answer, err := fourLetterWord(address, "srvr", time.Second)
		if err != nil || !strings.HasPrefix(string(answer), "Zookeeper version: ") {
			return false
		}
	}
	return true
}
