package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby starts a streaming standby of this server, asynchronous, with a port
// and a data directory of its own.
func (s *PostgresProcess) Standby(t testing.TB) *PostgresProcess {
	t.Helper()
	dir, err := workDir("standby")
	must(t, err)
	if s.credential != nil {
		must(t, os.Chown(dir, int(s.credential.Uid), int(s.credential.Gid)))
	}
	b := &PostgresProcess{settings: s.settings, bin: s.bin, credential: s.credential, DataDir: filepath.Join(dir, "data")}
	if s.has("pg_basebackup") {
		s.tool(t, "pg_basebackup", "-d", s.DSN, "-D", b.DataDir, "-R", "-c", "fast", "-X", "stream", "--no-sync")
	} else {
		s.backup(t, b.DataDir)
	}
	b.Port, err = FreePort()
	must(t, err)
	b.DSN = "postgres://postgres@" + loopback(b.Port) + "/postgres?sslmode=disable"
	must(t, b.start())
	t.Cleanup(func() {
		b.stop()
		if !keepData() {
			os.RemoveAll(dir)
		}
	})
	return b
}

// CutOff stops a standby from receiving anything more, and returns when it does not.
func (s *PostgresProcess) CutOff(t testing.TB) {
	t.Helper()
	conn := s.conn(t)
	for _, sql := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	s.until(t, conn, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
}

// CatchUp waits until a standby has replayed what its primary has flushed by now.
func (s *PostgresProcess) CatchUp(t testing.TB, primary *PostgresProcess) {
	t.Helper()
	var lsn string
	if err := primary.conn(t).QueryRow(t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	s.until(t, s.conn(t), "SELECT pg_last_wal_replay_lsn() >= '"+lsn+"'::pg_lsn")
}

// Promote makes a standby a primary, on the next timeline.
func (s *PostgresProcess) Promote(t testing.TB) {
	t.Helper()
	s.until(t, s.conn(t), "SELECT pg_promote(true, 60)")
}

// until asks again and again: nothing tells when a server has come so far.
func (s *PostgresProcess) until(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var is bool
		if err := conn.QueryRow(t.Context(), sql).Scan(&is); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if is {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", sql)
		}
	}
}

func (s *PostgresProcess) conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// CopyVolume copies the data of a server that is stopped, as a snapshot of its
// volume would. RestoreVolume puts the copy back.
func (s *PostgresProcess) CopyVolume(t testing.TB) (volume string) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("copy the volume: stop the server first")
	}
	volume = filepath.Join(filepath.Dir(s.DataDir), "volume")
	s.run(t, "cp", "-a", s.DataDir, volume)
	return volume
}

// RestoreVolume puts a copy in the place of the data of a server that is stopped.
func (s *PostgresProcess) RestoreVolume(t testing.TB, volume string) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("restore the volume: stop the server first")
	}
	must(t, os.RemoveAll(s.DataDir))
	s.run(t, "cp", "-a", volume, s.DataDir)
}

// Dump writes a database to a file with pg_dump; RestoreDump reads it.
func (s *PostgresProcess) Dump(t testing.TB, dsn string) (file string) {
	t.Helper()
	file = filepath.Join(filepath.Dir(s.DataDir), "dump")
	s.tool(t, "pg_dump", "-Fc", "-f", file, "-d", dsn)
	return file
}

// RestoreDump reads a dump into an empty database with pg_restore.
func (s *PostgresProcess) RestoreDump(t testing.TB, dsn, file string) {
	t.Helper()
	s.tool(t, "pg_restore", "--exit-on-error", "-d", dsn, file)
}

// backup does what pg_basebackup -R does, with the server's own functions:
// fetched binaries come without that program.
func (s *PostgresProcess) backup(t testing.TB, dir string) {
	t.Helper()
	conn := s.conn(t)
	begin, end := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if s.major(t, conn) < 15 {
		begin, end = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	var label string
	if _, err := conn.Exec(t.Context(), begin); err != nil {
		t.Fatalf("%s: %v", begin, err)
	}
	s.run(t, "cp", "-a", s.DataDir, dir)
	if err := conn.QueryRow(t.Context(), end).Scan(&label); err != nil {
		t.Fatalf("%s: %v", end, err)
	}
	must(t, os.Remove(filepath.Join(dir, "postmaster.pid")))
	for name, text := range map[string]string{"backup_label": label, "standby.signal": ""} {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if s.credential != nil { // PostgreSQL 14 opens them for writing
			must(t, os.Chown(file, int(s.credential.Uid), int(s.credential.Gid)))
		}
	}
	conf, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = fmt.Fprintf(conf, "primary_conninfo = '%s'\n", s.DSN)
	must(t, errors.Join(err, conf.Close()))
}

func (s *PostgresProcess) major(t testing.TB, conn *pgx.Conn) (major int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
		t.Fatal(err)
	}
	return major
}

func (s *PostgresProcess) toolDirs() []string {
	dirs := []string{s.bin}
	if real, err := filepath.EvalSymlinks(filepath.Join(s.bin, "postgres")); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	return dirs
}

// has says whether one of PostgreSQL's programs is beside the server.
func (s *PostgresProcess) has(name string) bool {
	return slices.ContainsFunc(s.toolDirs(), func(dir string) bool { return isFile(filepath.Join(dir, name)) })
}

// tool runs one of PostgreSQL's programs as the server's user: the one beside
// the server, which may be a link to it.
func (s *PostgresProcess) tool(t testing.TB, name string, args ...string) {
	t.Helper()
	dirs := s.toolDirs()
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); isFile(path) {
			s.run(t, path, args...)
			return
		}
	}
	Missing(t, &MissingError{Part: name, Reason: "not beside the server in " + dirs[len(dirs)-1], Install: installPostgres})
}

func (s *PostgresProcess) run(t testing.TB, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Dir = filepath.Dir(s.DataDir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = "/"
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(path), err, tail(out, 2000))
	}
}
