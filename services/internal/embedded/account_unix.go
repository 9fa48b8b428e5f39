//go:build unix

package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom the server runs as. Its zero value is the user of this process.
type account struct {
	name     string
	uid, gid int
}

// unprivileged returns the account to run a server as: this user, or, for root, "postgres" or "nobody".
func unprivileged() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return account{name: name, uid: uid, gid: gid}, nil
		}
	}
	return account{}, fmt.Errorf("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a user nobody: run as another user, or give --postgres URL")
}

func (a account) root() bool { return a.name != "" }

// command is exec.CommandContext as this account.
func (a account) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.root() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
		cmd.Env = append(os.Environ(), "HOME=/", "USER="+a.name)
	}
	return cmd
}

// cacheDir is where fetched binaries are kept: for root a folder that only root can write and the account can read.
func (a account) cacheDir() (string, error) {
	dir := filepath.Join("/var/cache", "millrace")
	if !a.root() {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache folder: %w", err)
		}
		dir = filepath.Join(base, "millrace")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create the cache folder: %w", err)
	}
	return dir, nil
}

// prepareDir makes dir and lets the account own it. The folders above must let the account pass.
func prepareDir(dir string, a account) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the PostgreSQL folder: %w", err)
	}
	if !a.root() {
		return nil
	}
	if err := os.Chown(dir, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to user %s: %w", dir, a.name, err)
	}
	for up := filepath.Dir(dir); up != filepath.Dir(up); up = filepath.Dir(up) {
		fi, err := os.Stat(up)
		if err != nil {
			return err
		}
		if fi.Mode()&0o001 == 0 {
			return fmt.Errorf("user %s, whom PostgreSQL runs as, cannot pass %s: keep the data elsewhere (--keep DIR, for example below /var/tmp)", a.name, up)
		}
	}
	return nil
}
