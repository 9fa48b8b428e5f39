//go:build cgo

package duckdb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/duckdb"
)

func Example() {
	dir, err := os.MkdirTemp("", "warehouse")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	w, err := duckdb.Open(duckdb.Config{Path: filepath.Join(dir, "warehouse.duckdb")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = w.Close() }()
	res, err := w.Query(context.Background(), "select count(*) as events, 0.10::decimal(12,2) as fee from bronze.events", warehouse.Limits{MaxRows: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Columns, res.Types, res.Rows)
	_, err = w.Query(context.Background(), "drop table bronze.events", warehouse.Limits{})
	fmt.Println(err)
	// Output:
	// [events fee] [BIGINT DECIMAL(12,2)] [[0 0.10]]
	// only statements that read the warehouse are answered
}
