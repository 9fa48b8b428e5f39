package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken below the range from which kernels give ports to outgoing
// connections (32768 and up on Linux): a server that is stopped and started
// again must find its port still free.
const (
	firstPort = 18000
	lastPort  = 32000
)

var given struct {
	sync.Mutex // guards the following
	ports      map[int]bool
}

// FreePort returns a port of 127.0.0.1 on which nothing listens now, and another one each time. Callers in two processes are
// unlikely, not certain, to get different ones: whoever cannot bind asks again.
func FreePort() (int, error) {
	given.Lock()
	defer given.Unlock()
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if given.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("release port %d: %w", port, err)
		}
		if given.ports == nil {
			given.ports = map[int]bool{}
		}
		given.ports[port] = true
		return port, nil
	}
	return 0, errors.New("no free port on 127.0.0.1 after 200 tries")
}

// Guarantee 5: every server listens on 127.0.0.1 alone.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
