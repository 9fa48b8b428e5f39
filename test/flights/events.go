package flights

import (
	"encoding/json"
	"time"
)

// event is one call of outbox.emit.
type event struct {
	Type, Key string
	Body      []byte
}

// events are what happened to a flight, in order.
func (f Flight) events() []event {
	out := []event{f.event("flights.FlightScheduled", map[string]any{
		"carrier": f.Carrier, "flight": f.Number, "origin": f.Origin, "dest": f.Dest, "date": f.Date.Format(time.DateOnly),
		"sched_dep_time": f.SchedDep, "sched_arr_time": f.SchedArr, "scheduled_hour": f.Hour.Format(time.RFC3339),
		"distance": f.Distance, "tailnum": f.Tailnum,
	})}
	if f.cancelled() {
		return append(out, f.event("flights.FlightCancelled", map[string]any{}))
	}
	out = append(out, f.event("flights.FlightDeparted", map[string]any{"dep_time": *f.DepTime, "dep_delay": *f.DepDelay}))
	if f.ArrTime != nil {
		out = append(out, f.event("flights.FlightArrived", map[string]any{"arr_time": *f.ArrTime, "arr_delay": f.ArrDelay, "air_time": f.AirTime}))
	}
	return out
}

func (f Flight) cancelled() bool { return f.DepTime == nil }

func (f Flight) event(typ string, body map[string]any) event {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return event{Type: typ, Key: f.Key(), Body: raw}
}
