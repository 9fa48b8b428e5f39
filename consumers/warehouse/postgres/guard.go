package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers/warehouse"
)

// maxSQLBytes is the length of the longest statement, in bytes.
const maxSQLBytes = 64 << 10

// What holds a user's statement to reading:
//
//   - it is declared as a cursor, which nothing but one SELECT, VALUES, TABLE or WITH without a change can be;
//   - the transaction is read-only, and cannot be made anything else once a statement has run in it;
//   - no word of it is the name of a volatile function that is written in C: those end other sessions, take locks, change settings,
//     read files and call other servers, which a read-only transaction does not keep them from. Words of texts and comments count as well:
//     what is taken for a text here could be something else for the server;
//   - the server ends it in time, and it has a connection of its own.

// first are the words that a query can begin with.
var first = regexp.MustCompile(`(?is)^(select|with|values|table|\()`)

// letters that stand for words by their numbers would hide them.
var escapedName = regexp.MustCompile(`(?i)u&"`)

var word = regexp.MustCompile(`[\pL_\x{80}-\x{10ffff}][\pL\pN_$\x{80}-\x{10ffff}]*`)

// harmless are volatile functions that only compute.
var harmless = []string{"random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7"}

// screen returns the statement without what surrounds it, or says why it is not run.
func screen(sql string) (string, error) {
	if len(sql) > maxSQLBytes {
		return "", fmt.Errorf("%w: the statement is longer than %d KiB", warehouse.ErrInvalid, maxSQLBytes>>10)
	}
	if strings.ContainsRune(sql, 0) {
		return "", fmt.Errorf("%w: the statement holds a null character", warehouse.ErrInvalid)
	}
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \n\t\r")
	body := afterComments(sql)
	switch {
	case body == "":
		return "", fmt.Errorf("%w: there is no statement", warehouse.ErrInvalid)
	case !first.MatchString(body):
		return "", fmt.Errorf("%w: it begins with %.20q; a query begins with SELECT, WITH, VALUES or TABLE", warehouse.ErrRefused, firstWord(body))
	case escapedName.MatchString(sql):
		return "", fmt.Errorf(`%w: U&"…" is not for queries`, warehouse.ErrRefused)
	}
	return sql, nil
}

func firstWord(s string) string { return cut(strings.FieldsFunc(s+" ", isSpace)[0], 20) }

func isSpace(r rune) bool { return r == ' ' || r == '\n' || r == '\t' || r == '\r' || r == '\f' }

// afterComments is the statement behind the comments that it begins with.
func afterComments(sql string) string {
	for {
		sql = strings.TrimLeftFunc(sql, isSpace)
		switch {
		case strings.HasPrefix(sql, "--"):
			_, rest, found := strings.Cut(sql, "\n")
			if !found {
				return ""
			}
			sql = rest
		case strings.HasPrefix(sql, "/*"):
			depth, i := 1, 2
			for ; i < len(sql) && depth > 0; i++ {
				switch {
				case strings.HasPrefix(sql[i:], "/*"):
					depth, i = depth+1, i+1
				case strings.HasPrefix(sql[i:], "*/"):
					depth, i = depth-1, i+1
				}
			}
			sql = sql[i:]
		default:
			return sql
		}
	}
}

// judge refuses statements with the name of a function that does more than compute.
func (w *Warehouse) judge(ctx context.Context, conn *pgx.Conn, sql string) error {
	var words []string
	for _, x := range word.FindAllString(sql, -1) {
		words = append(words, x, strings.ToLower(x))
	}
	slices.Sort(words)
	words = slices.Compact(words)
	var name string
	err := conn.QueryRow(ctx, `SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
		WHERE p.provolatile = 'v' AND l.lanname IN ('internal', 'c') AND p.proname = ANY($1::text[]) AND p.proname <> ALL($2::text[])
		AND p.prorettype <> 'pg_catalog.trigger'::regtype LIMIT 1`, words, harmless).Scan(&name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %s is the name of a function that is not for queries", warehouse.ErrRefused, name)
}

// asked turns what the server reports of a user's statement into an error for the user.
func asked(ctx context.Context, err error) error {
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, warehouse.ErrBusy), errors.Is(err, warehouse.ErrInvalid), errors.Is(err, warehouse.ErrRefused), errors.Is(err, ErrClosed):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded), is(err, queryCanceled):
		return warehouse.ErrTimeout
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &pg):
		return err
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) {
		return err
	}
	switch pg.Code {
	case insufficientRight, readOnlyTransaction:
		return fmt.Errorf("%w: %s", warehouse.ErrRefused, pg.Message)
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "53":
		return warehouse.ErrTooMuch
	case "08", "40", "55", "57", "58", "XX", "F0":
		return err
	}
	return fmt.Errorf("%w: %s", warehouse.ErrInvalid, pg.Message)
}
