package projection

import (
	"math"
	"math/big"
	"time"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// rule is what an event of one type does.
type rule struct {
	delete bool
	set    []setter
	// overwrites says that the state before it does not matter.
	overwrites bool

	schema schemas.Fingerprint // for which it was compiled
	reads  []string            // the event's fields that it reads
	fields []int               // their numbers
	whole  bool                // it reads all of them
}

type setter struct {
	column int
	expr   *expression
	fit    fit
}

// readsOf notes which fields the expressions read.
func (r *rule) readsOf(all []avro.Field) {
	read := map[string]bool{}
	for _, s := range r.set {
		r.whole = r.whole || s.expr.refs.whole
		for _, path := range s.expr.refs.event {
			read[path[0]] = true
		}
	}
	for i, f := range all {
		if r.whole || read[f.Name] {
			r.reads, r.fields = append(r.reads, f.Name), append(r.fields, i)
		}
	}
}

// overwritesAll says that the rule sets every one of so many columns, from the event alone.
func (r *rule) overwritesAll(columns int) bool {
	for _, s := range r.set {
		if s.expr.refs.anyState {
			return false
		}
	}
	return r.delete || len(r.set) == columns
}

func (r *rule) coveredBy(sel *avro.Selection) bool {
	for _, number := range r.fields {
		if sel.Slot(number) < 0 {
			return false
		}
	}
	return true
}

// Reads returns the fields of an event type that the declaration's expressions read. all says that one of them uses the event as a
// whole.
func (p *Projection) Reads(eventType string) (names []string, all bool) {
	r, ok := p.rules[eventType]
	if !ok {
		return nil, false
	}
	return r.reads, r.whole
}

// fit is what is known, when the declaration is compiled, of a decoded field that goes into a column.
type fit uint8

const (
	fitsMaybe  fit = iota // Coerce has to look
	fitsAlways            // the value is the column's as it is
	fitsInTime            // it is, if its year is one that columns have
)

// fitOf compares the type of a field with that of its column. What the codec guarantees of its values (text is UTF-8, a decimal is within
// its precision, a time of day is one) need not be looked at again.
func fitOf(from avro.Type, to Type) fit {
	always := false
	switch from.Kind {
	case avro.Bool:
		always = to.Kind == Bool
	case avro.Int, avro.Long:
		always = to.Kind == Int
	case avro.Float, avro.Double:
		always = to.Kind == Float
	case avro.String, avro.Enum, avro.UUID:
		always = to.Kind == Text
	case avro.Bytes:
		always = to.Kind == Bytes
	case avro.TimeOfDay:
		always = to.Kind == Duration
	case avro.Decimal:
		always = to.Kind == Decimal && from.Precision > 0 && from.Scale <= to.Scale && from.Precision-from.Scale <= to.Precision-to.Scale
	case avro.Date:
		if to.Kind == Date || to.Kind == Timestamp {
			return fitsInTime
		}
	case avro.Timestamp:
		if to.Kind == Timestamp {
			return fitsInTime
		}
	}
	if always {
		return fitsAlways
	}
	return fitsMaybe
}

// The first second of year 1 and the first after year 9999.
const firstSecond, endSecond = -62135596800, 253402300800

// coerce is Coerce for a value that an expression gave.
func (s *setter) coerce(t Type, v any, in *input) (any, error) {
	if _, isConstant := s.expr.form.(constant); v == nil || isConstant {
		return v, nil
	}
	if !in.bound {
		return Coerce(t, v)
	}
	switch s.fit {
	case fitsAlways:
		return v, nil
	case fitsInTime:
		if x, ok := v.(time.Time); ok && x.Unix() >= firstSecond && x.Unix() < endSecond && x.Nanosecond()%1000 == 0 {
			return v, nil
		}
	}
	return Coerce(t, v)
}

// fieldType is the type of what stands at the end of a path.
func fieldType(list []avro.Field, path []string) avro.Type {
	t, err := lookup("", list, path)
	if err != nil {
		return avro.Type{}
	}
	return t
}

// unscaledSmall is Unscaled where machine words do: for nearly every amount there is. ok is false if they do not, or if r does not fit.
func unscaledSmall(r *big.Rat, precision, scale int) (n int64, ok bool) {
	num, den := r.Num(), r.Denom()
	if scale < 0 || scale >= len(tens) || !num.IsInt64() || !den.IsInt64() || tens[scale]%den.Int64() != 0 {
		return 0, false
	}
	limit := int64(math.MaxInt64)
	if precision < len(tens) {
		limit = tens[max(precision, 0)] - 1
	}
	n, factor := num.Int64(), tens[scale]/den.Int64()
	if n > limit/factor || n < -(limit/factor) {
		return 0, false
	}
	return n * factor, true
}

// tens are the powers of ten that fit 64 bits.
var tens = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()
