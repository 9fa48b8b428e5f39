package harness

import (
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Silence has a broker of this process take requests of a kind and say nothing, until end is called or the test is over: then it
// answers them. Meanwhile it answers nobody else either. asked is closed when the first of them has come.
func Silence(t testing.TB, broker *kfake.Cluster, kind kmsg.Key) (asked <-chan struct{}, end func()) {
	t.Helper()
	come, over := make(chan struct{}), make(chan struct{})
	var once sync.Once
	broker.ControlKey(int16(kind), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		once.Do(func() { close(come) })
		<-over
		return nil, nil, false
	})
	end = sync.OnceFunc(func() { close(over) })
	t.Cleanup(end)
	return come, end
}

// SilentPort returns an address on loopback that takes connections and says nothing.
func SilentPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}
