package cache

import (
	"strings"
	"testing"
)

func TestDialKeepsThePasswordOutOfItsErrors(t *testing.T) {
	for _, address := range []string{"", "redis://user:sec/ret@host/0", "redis://u:secret@host/x", "http://u:secret@host",
		"redis://u:secret@h:1?addr=h:2&read_timeout=secret", "redis://u:%zzsecret@host", "redis://u:secret@host/0?nosuch=secret"} {
		c, err := Dial(address)
		if err == nil {
			_ = c.Close()
			t.Errorf("%q is accepted", address)
			continue
		}
		if strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "ret@") {
			t.Errorf("the error tells: %v", err)
		}
	}
}

func TestDialUnderstands(t *testing.T) {
	for _, address := range []string{"redis://localhost:6379", "redis://u:p@h:1/3", "rediss://h:1", "unix:///run/redis.sock", "redis://h:1?addr=h:2&addr=h:3"} {
		c, err := Dial(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		_ = c.Close()
	}
}
