package avro

import (
	"encoding/binary"
	"errors"
	"reflect"
)

// record writes a map or a struct. Every field of the record gets a value, and every value that was given is written:
// what nobody would read is refused, for ignored data is lost data.
func (w *writer) record(dst []byte, p *plan, v any) ([]byte, error) {
	if m, ok := mapOf(v); ok {
		return w.recordMap(dst, p, m)
	}
	if isStruct(v) {
		return w.recordStruct(dst, p, v)
	}
	return dst, w.misfit(p, v)
}

func (w *writer) recordMap(dst []byte, p *plan, m map[string]any) (_ []byte, err error) {
	used := 0
	for i := range p.fields {
		f := &p.fields[i]
		v, given := m[f.name]
		if given {
			used++
		}
		if dst, err = w.field(dst, f, v, given); err != nil {
			return dst, err
		}
	}
	if used == len(m) {
		return dst, nil
	}
	for _, key := range sortedKeys(m) {
		if _, known := p.index[key]; !known {
			w.push(key, 0)
			return dst, w.fail("is not a field of " + p.name)
		}
	}
	return dst, nil
}

// field writes a field, or what stands for it if it was not given: its default, or null.
func (w *writer) field(dst []byte, f *fieldPlan, v any, given bool) (_ []byte, err error) {
	if !given {
		if f.fill != nil {
			return append(dst, f.fill...), nil
		}
		if f.kind == Union && f.null >= 0 || f.kind == Null {
			v, given = nil, true
		}
	}
	w.push(f.name, 0)
	if !given {
		return dst, w.fail("is missing, and has no default")
	}
	if dst, err = w.value(dst, f.plan, v); err != nil {
		return dst, err
	}
	w.pop()
	return dst, nil
}

// union writes the number of a branch and the value in it.
func (w *writer) union(dst []byte, p *plan, v any) ([]byte, error) {
	if v == nil || isNilSlice(v) {
		if p.null < 0 {
			return dst, w.fail("must not be null")
		}
		return binary.AppendVarint(dst, int64(p.null)), nil
	}
	if value, ok := p.nullable(); ok && value.kind != Record && value.kind != Map {
		return w.value(binary.AppendVarint(dst, int64(1-p.null)), value, v)
	}
	if i, inner, ok := p.tagged(v); ok {
		return w.value(binary.AppendVarint(dst, int64(i)), p.branches[i], inner)
	}
	if value, ok := p.nullable(); ok {
		return w.value(binary.AppendVarint(dst, int64(1-p.null)), value, v)
	}
	return w.firstThatFits(dst, p, v)
}

// tagged recognises Avro's own form of a union's value: an object of one member, named for the branch. A map that could
// as well be the value itself is taken as the value.
func (p *plan) tagged(v any) (branch int, inner any, ok bool) {
	m, isMap := v.(map[string]any)
	if !isMap || len(m) != 1 {
		return 0, nil, false
	}
	for i, b := range p.branches {
		inner, ok := m[b.tag()]
		if !ok || b.kind == Null {
			continue
		}
		for _, other := range p.branches {
			_, field := other.index[b.tag()]
			if field || other.kind == Map {
				return 0, nil, false
			}
		}
		return i, inner, true
	}
	return 0, nil, false
}

// firstThatFits tries the branches in their order; those that would hold v only rounded, or as another kind of number,
// come last.
func (w *writer) firstThatFits(dst []byte, p *plan, v any) ([]byte, error) {
	start, path := len(dst), len(w.path)
	var closest *FieldError
	for _, last := range []bool{false, true} {
		for i, branch := range p.branches {
			if branch.kind == Null || last != secondBest(branch, v, w.json) {
				continue
			}
			out, err := w.value(binary.AppendVarint(dst, int64(i)), branch, v)
			if err == nil {
				return out, nil
			}
			var fe *FieldError
			if errors.As(err, &fe) && (closest == nil || len(fe.Field) > len(closest.Field)) {
				closest = fe
			}
			dst, w.path = dst[:start], w.path[:path]
		}
	}
	if closest != nil && closest.Field != w.pathText() {
		return dst, closest
	}
	return dst, w.fail(show(v) + " fits no branch of the union")
}

// secondBest says that a branch may take v only if no other does: a float that would not hold it exactly, or an integer
// for what came as a float.
func secondBest(branch *plan, v any, fromJSON bool) bool {
	switch branch.kind {
	case Float, Double:
		f, ok := floatOf(v, fromJSON)
		if !ok {
			return false
		}
		if branch.kind == Float && float64(float32(f)) != f {
			return true
		}
		return !exactFloat(v, f)
	case Int, Long, Date, TimeOfDay, Timestamp:
		return reflect.ValueOf(v).CanFloat()
	}
	return false
}
