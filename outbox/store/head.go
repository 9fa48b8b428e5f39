package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// head is what headColumns say.
type head struct {
	upper   Snapshot
	flushed uint64
	fits    bool
	epoch   int64 // of the ring
	drawn   int64 // the last id drawn; 0 if that was not asked, or none was
	source  Source
}

func (r *Reader) askHead(ctx context.Context) (head, error) {
	var text []byte
	if err := r.conn.QueryRow(ctx, r.queries.head).Scan(&text); err != nil {
		return head{}, err
	}
	return parseHead(append([]byte{1}, text...))
}

// parseHead reads the head out of a jsonb value in binary format.
func parseHead(raw []byte) (head, error) {
	var answer struct {
		Upper, System string
		Recovery      bool
		LSN, Flushed  string
		WALFile       string `json:"wal_file"`
		Fits          bool
		Epoch, Drawn  int64
	}
	if len(raw) == 0 {
		return head{}, errors.New("the database did not describe itself")
	}
	if err := json.Unmarshal(raw[1:], &answer); err != nil {
		return head{}, fmt.Errorf("what the database says of itself: %w", err)
	}
	upper, err := ParseSnapshot(answer.Upper)
	if err != nil {
		return head{}, err
	}
	h := head{upper: upper, fits: answer.Fits, epoch: answer.Epoch, drawn: answer.Drawn}
	h.source = Source{SystemID: answer.System, InRecovery: answer.Recovery, Xmax: upper.Xmax}
	if answer.Recovery {
		return h, nil
	}
	if h.source.LSN, err = ParseLSN(answer.LSN); err != nil {
		return head{}, err
	}
	if h.flushed, err = ParseLSN(answer.Flushed); err != nil {
		return head{}, err
	}
	h.source.Timeline, err = timelineOf(answer.WALFile)
	return h, err
}
