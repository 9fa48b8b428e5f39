package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/sink"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 256 << 20

// remote asks the process that runs a sink, for an embedded store belongs to one process.
type remote struct {
	url  string
	sink string
}

// flags adds --url and --sink to a command that asks a running sink.
func (r *remote) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.url, "url", "", "`URL` where the sink's process serves HTTP (default: http.listen)")
	cmd.Flags().StringVar(&r.sink, "sink", "", "`NAME` of the sink, where there is more than one of its kind")
}

// resolve finds the sink of a kind, and the base URL of its process.
func (r *remote) resolve(a *app, role sink.Role) error {
	if r.url != "" && r.sink != "" {
		return nil
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	r.url = cmp.Or(r.url, "http://"+c.HTTP.Listen)
	var names []string
	for _, name := range sorted(c.Sinks) {
		if c.Sinks[name].Role() == role {
			names = append(names, name)
		}
	}
	switch {
	case r.sink == "" && len(names) == 1:
		r.sink = names[0]
	case r.sink == "" && len(names) == 0:
		return c.file.Errorf("sinks", "has no %s", role)
	case r.sink == "":
		return usagef("there are %d sinks of this kind: say which with --sink (%s)", len(names), strings.Join(names, ", "))
	case c.Sinks[r.sink] == nil || c.Sinks[r.sink].Role() != role:
		return c.file.Errorf("sinks", "has no %s named %q (it has %q)", role, r.sink, names)
	}
	return nil
}

// errNothingAnswers is what a call's error wraps when there is no process to ask.
var errNothingAnswers = errors.New("nothing answers")

// noSinkError says that the process that was asked does not run the sink.
type noSinkError struct{ text string }

func (e *noSinkError) Error() string { return e.text }

// answerPatience is how much longer than a question may take its answer is waited for.
const answerPatience = 10 * time.Second

// call sends a request to the sink and decodes the answer, numbers kept exact. What the sink refuses is an error in its words.
// The sink itself ends a question after limit; one that does not, for it is frozen, is given up a little later.
func (r *remote) call(ctx context.Context, limit time.Duration, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, limit+answerPatience)
	defer cancel()
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.url, "/")+"/v1/sinks/"+r.sink+path, payload)
	if err != nil {
		return usagef("--url %q is no URL such as http://127.0.0.1:8088", hideURL(r.url))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return fmt.Errorf("%w at %s: is \"millrace up\" or \"millrace sink %s\" running? (--url says where it serves HTTP)", errNothingAnswers, hideURL(r.url), r.sink)
		}
		return fmt.Errorf("ask sink %s: %w", r.sink, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of sink %s: %w", r.sink, err)
	}
	if resp.StatusCode != http.StatusOK {
		return r.refused(resp, raw)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(answer); err != nil {
		return fmt.Errorf("the answer of sink %s is not JSON: %w", r.sink, err)
	}
	return nil
}

func (r *remote) refused(resp *http.Response, raw []byte) error {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(raw, &e) == nil && e.Error != "" {
		return &answerError{e.Error}
	}
	if resp.StatusCode == http.StatusNotFound {
		return &noSinkError{fmt.Sprintf("the process at %s runs no sink %s", hideURL(r.url), r.sink)}
	}
	return fmt.Errorf("sink %s answered %s", r.sink, resp.Status)
}
