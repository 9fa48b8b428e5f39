package backfill

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// A database that has gone away is no missing table: nobody is to look for a wrong name.
func TestADatabaseThatIsAwayIsNotTakenForAMissingTable(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	if _, err := conn.Exec(t.Context(), "create table orders (id int primary key)"); err != nil {
		t.Fatal(err)
	}
	var wrong *DeclarationError
	for _, name := range []string{"nosuch", "not a name"} {
		if _, err := tableName(t.Context(), conn, name); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tableName(t.Context(), conn, "orders"); err == nil || errors.As(err, &wrong) {
		t.Errorf("the connection is closed: %v", err)
	}
}
