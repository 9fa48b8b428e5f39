package relay

import "time"

// meterSeconds is what a rate is taken over.
const meterSeconds = 10

// meter counts events by the second. The zero meter is ready.
type meter struct {
	counts [meterSeconds + 1]int
	second int64 // of the newest count
}

func (m *meter) add(now time.Time, n int) {
	m.turn(now)
	m.counts[m.second%int64(len(m.counts))] += n
}

// rate is events a second over the last whole seconds.
func (m *meter) rate(now time.Time) float64 {
	m.turn(now)
	sum := 0
	for i, n := range m.counts {
		if int64(i) != m.second%int64(len(m.counts)) {
			sum += n
		}
	}
	return float64(sum) / meterSeconds
}

// turn clears the seconds that have passed since the last call.
func (m *meter) turn(now time.Time) {
	second := now.Unix()
	for s := max(m.second+1, second-int64(len(m.counts))+1); s <= second; s++ {
		m.counts[s%int64(len(m.counts))] = 0
	}
	m.second = max(m.second, second)
}
