package avro

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	lib "github.com/twmb/avro"
)

// finishError is a fault in a decoded value, with the path to it.
type finishError struct {
	path string
	err  error
}

func (e *finishError) Error() string { return "field " + e.path + ": " + e.err.Error() }

func (e *finishError) Unwrap() error { return e.err }

// within puts a step of the path in front of a fault.
func within(step string, err error) error {
	inner, ok := err.(*finishError)
	switch {
	case err == nil:
		return nil
	case !ok:
		return &finishError{step, err}
	case !strings.HasPrefix(inner.path, "["):
		step += "."
	}
	return &finishError{step + inner.path, inner.err}
}

func finishRecord(p *plan, values map[string]any) error {
	for i := range p.fields {
		f := &p.fields[i]
		if !f.raw {
			continue
		}
		was := values[f.name]
		v, err := finish(f.plan, was)
		if err != nil {
			return within(f.name, err)
		}
		if f.replaces(was) {
			values[f.name] = v
		}
	}
	return nil
}

// replaces says that finish returns another value than the one it got: maps and lists are changed in place, and text is
// only looked at.
func (p *plan) replaces(was any) bool {
	switch was.(type) {
	case nil, map[string]any, []any, time.Duration, *big.Rat:
		return false
	case string:
		return p.kind != String
	}
	return true
}

// finish turns what the library decodes into what Kind promises, and refuses what it lets pass although the type does
// not allow it.
func finish(p *plan, v any) (any, error) {
	if value, ok := p.nullable(); ok {
		p = value
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, finishList(p.elemOf(Array), v)
	case map[string]any:
		if p.kind == Record {
			return v, finishRecord(p, v)
		}
		return v, finishMap(p.elemOf(Map), v)
	}
	return finishLeaf(p, v)
}

// anything is the plan of values of which only their Go type is known: a union does not say which branch was read.
var anything = &plan{kind: Union, null: -1, raw: true}

func (p *plan) elemOf(kind Kind) *plan {
	if p.kind == kind {
		return p.elem
	}
	return anything
}

func finishList(elem *plan, list []any) error {
	if !elem.raw {
		return nil
	}
	for i, item := range list {
		v, err := finish(elem, item)
		if err != nil {
			return within("["+strconv.Itoa(i)+"]", err)
		}
		list[i] = v
	}
	return nil
}

func finishMap(elem *plan, m map[string]any) error {
	for key, item := range m {
		if !validText(key) {
			return errors.New("a key is not UTF-8 text")
		}
		if !elem.raw {
			continue
		}
		v, err := finish(elem, item)
		if err != nil {
			return within(excerpt(key), err)
		}
		m[key] = v
	}
	return nil
}

func finishLeaf(p *plan, v any) (any, error) {
	switch v := v.(type) {
	case int32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case [16]byte:
		return formatUUID(v), nil
	case lib.Duration:
		b := v.Bytes()
		return b[:], nil
	case string:
		return finishText(p, v)
	case *big.Rat:
		if p.kind != Decimal {
			return v, nil
		}
		if err := fitsDecimal(v, p.precision, p.scale); err != nil {
			return nil, fmt.Errorf("%w: decimal(%d,%d)", err, p.precision, p.scale)
		}
	case time.Duration:
		if v < 0 || v >= 24*time.Hour {
			return nil, errors.New("is no time of day")
		}
	}
	return v, nil
}

func finishText(p *plan, s string) (any, error) {
	if !validText(s) {
		return nil, errors.New("is not UTF-8 text")
	}
	if p.kind != UUID {
		return s, nil
	}
	id, ok := parseUUID(s)
	if !ok {
		return nil, errors.New("is not a uuid")
	}
	return formatUUID(id), nil
}
