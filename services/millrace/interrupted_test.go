package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/consumers/verify"
	"github.com/millrace/millrace/services/millrace/replay"
	"github.com/millrace/millrace/test/harness"
)

// Ctrl-C ends every command with status 130, and with a line that a person understands.
func TestCtrlCIsNoFailure(t *testing.T) {
	goesOn := new(format)
	for want, err := range map[string]error{
		"interrupted": fmt.Errorf("verify sink a: %w", context.Canceled),
		"interrupted: the requests stay, and are carried out by the process that owns the partition": fmt.Errorf("interrupted: the requests stay, and are carried out by the process that owns the partition: %w", context.Canceled),
		"interrupted: the same command goes on where this one ended":                                 printCopied(new(bytes.Buffer), goesOn, replay.Result{}, fmt.Errorf("read: %w", context.Canceled)),
	} {
		var said bytes.Buffer
		cmd := &cobra.Command{Use: "millrace"}
		cmd.SetErr(&said)
		if status := report(cmd, err); status != exitStopped || said.String() != "millrace: "+want+"\n" {
			t.Errorf("%v: status %d, %q", err, status, said.String())
		}
	}
}

// A replay that has not begun has nothing to go on with.
func TestAReplayThatHasNotBegunSaysOnlyWhatIsWrong(t *testing.T) {
	wrong := errors.New("no broker")
	if err := printCopied(new(bytes.Buffer), new(format), replay.Result{}, wrong); err.Error() != "no broker" {
		t.Error(err)
	}
	if err := printCopied(new(bytes.Buffer), new(format), replay.Result{Sent: 5}, wrong); !strings.Contains(err.Error(), "goes on") {
		t.Error(err)
	}
}

// Kafka is away: the error says where to look.
func TestABrokerThatIsAwayIsExplained(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = rebuild.Open("warehouse", kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", port))).Read(ctx)
	if text := fmt.Sprint(explain(err)); !strings.Contains(text, "look at kafka.brokers") {
		t.Error(text)
	}
}

// The command that mends is written so that it can be typed.
func TestAVerdictNamesTheSinkThatDiffers(t *testing.T) {
	for want, all := range map[string]*verifiedAll{
		"2 differences: millrace repair search --differences": {Sinks: []*verify.Result{{Sink: "cache"}, {Sink: "search", Differences: 2}}},
		"3 differences: millrace repair SINK --differences":   {Sinks: []*verify.Result{{Sink: "cache", Differences: 1}, {Sink: "search", Differences: 2}}},
	} {
		var said bytes.Buffer
		if err := all.verdict(&said, new(format)); !errors.Is(err, errQuiet) || !strings.Contains(said.String(), want) {
			t.Errorf("%v: %q", err, said.String())
		}
	}
}

// What TLS says of a broker is not taken for one that is away.
func TestABrokerThatSpeaksNoTLSIsNotAway(t *testing.T) {
	err := fmt.Errorf("unable to dial: %w", x509.UnknownAuthorityError{})
	if text := fmt.Sprint(explain(err)); !strings.Contains(text, "kafka.tls.ca") {
		t.Error(text)
	}
}
