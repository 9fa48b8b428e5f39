package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// directRounds is how often CheckDirect tries to catch a pooler in the act. On one that nobody else uses once is enough.
const directRounds = 10

// CheckDirect makes sure that conn keeps one server process for itself: a *SetupError with ErrPooler if something in
// between gives the process to others after each transaction. The lock that elects the leader, and every setting of
// a session, would stay with a process that anybody uses. dial opens another connection the same way.
//
// A server tells its process id when it is connected to; a pooler makes one up. Only if the two differ is more asked:
// a pooler that keeps sessions apart will do. One that does not is found by two connections that are, in turn, within
// a transaction and not: they get the same process, or one of them changes it.
func CheckDirect(ctx context.Context, conn *pgx.Conn, dial func(context.Context) (*pgx.Conn, error)) error {
	first, err := processOf(ctx, conn)
	if err != nil || first == conn.PgConn().PID() {
		return err
	}
	other, err := dial(ctx)
	if err != nil {
		return err
	}
	defer other.Close(ctx)
	for range directRounds {
		now, err := processOf(ctx, conn)
		if err != nil {
			return err
		}
		if now != first {
			return shared("process %d answered, then %d", first, now)
		}
		if err := checkApart(ctx, now, other); err != nil {
			return err
		}
	}
	return nil
}

// checkApart has another connection hold on to a process, which must not be the given one.
func checkApart(ctx context.Context, process uint32, other *pgx.Conn) error {
	if _, err := other.Exec(ctx, `begin`); err != nil {
		return shared("a transaction cannot be begun: %v", err)
	}
	held, err := processOf(ctx, other)
	if err != nil {
		return err
	}
	if held == process {
		return shared("process %d serves two connections", held)
	}
	if _, err := other.Exec(ctx, `rollback`); err != nil {
		return fmt.Errorf("end a transaction: %w", err)
	}
	return nil
}

func shared(format string, args ...any) error {
	return unfit(ErrPooler, "connect to the server itself, or through a pool in session mode", format, args...)
}

// processOf asks which server process answers. Statements are not prepared: a pooler may not know where they are.
func processOf(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, `select pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("ask which server process answers: %w", err)
	}
	return pid, nil
}
