package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profilePatience is how long a process may take to open its HTTP server.
const profilePatience = 10 * time.Second

// profile takes a CPU profile of the relay from now on for Options.PprofFor, and then one of its allocations, if profiles
// are asked for. The function it returns waits for them. A run that is profiled is slower.
func (r *relay) profile(ctx context.Context, name string) (wait func() error) {
	return r.site.rig.profileOf(ctx, r.base, name)
}

// profileOf is profile for any of our processes that serves HTTP at base.
func (r *rig) profileOf(ctx context.Context, base, name string) (wait func() error) {
	o := r.opts
	if o.Pprof == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		err := r.fetchProfile(ctx, base, fmt.Sprintf("profile?seconds=%d", int(o.PprofFor.Seconds())), filepath.Join(o.Pprof, name+".cpu.pprof"))
		if err == nil {
			err = r.fetchProfile(ctx, base, "allocs", filepath.Join(o.Pprof, name+".allocs.pprof"))
		}
		done <- err
	}()
	return func() error { return <-done }
}

func (r *rig) fetchProfile(ctx context.Context, base, what, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make the folder for profiles: %w", err)
	}
	var resp *http.Response
	for deadline := time.Now().Add(profilePatience); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/debug/pprof/"+what, nil)
		if err != nil {
			return err
		}
		if resp, err = http.DefaultClient.Do(req); err == nil {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("ask %s for a profile: %w", base, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s when asked for a profile", base, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	_, err = io.Copy(f, resp.Body)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	r.say("profile written to %s", file)
	return nil
}
