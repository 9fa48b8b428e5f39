package crash

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/millrace/millrace/services/shop"
)

// chaos kills the victims until each was killed so many times while it worked.
//
//	one round = wait until somebody works; pause; kill one, or two at once; pause; start them; perhaps kill one that starts
type chaos struct {
	w       *world
	rng     *rand.Rand
	victims []*role
	each    int
}

// roundPatience is how long all victims may take until one that is still to be killed works again.
const roundPatience = 2 * time.Minute

func (c *chaos) run() {
	c.w.t.Helper()
	for round := 1; ; round++ {
		victim := c.next()
		if victim == nil {
			return
		}
		victims := []*role{victim}
		if other := c.victims[c.rng.IntN(len(c.victims))]; other != victim && c.rng.IntN(3) == 0 {
			victims = append(victims, other)
		}
		c.pause(600 * time.Millisecond)
		p := c.w.shop.mustTrade()
		for _, v := range victims {
			v.kill()
		}
		c.log(round, p, victims, "")
		c.pause(time.Second)
		for _, v := range victims {
			v.start()
		}
		if c.rng.IntN(4) == 0 {
			c.pause(1200 * time.Millisecond)
			again := victims[c.rng.IntN(len(victims))]
			again.kill()
			c.log(round, p, []*role{again}, " again while it starts")
			again.start()
		}
	}
}

// next waits until a victim works that is still to be killed, and returns it; nil if there is none left. While it waits, others are
// killed once more, but no more often than every few seconds.
func (c *chaos) next() *role {
	c.w.t.Helper()
	var working []*role
	left := false
	eventually(c.w.t, "for a victim to work", roundPatience, func() (bool, string) {
		c.w.shop.mustTrade()
		working, left = nil, false
		var idle []string
		for _, v := range c.victims {
			v.mustRun()
			works := v.worked()
			left = left || v.kills < c.each
			switch {
			case works && (v.kills < c.each || time.Since(v.started) > rest):
				working = append(working, v)
			case !works:
				idle = append(idle, v.name)
			}
		}
		return len(working) > 0 || !left, "nothing comes from " + strings.Join(idle, ", ")
	})
	if !left {
		return nil
	}
	return working[c.rng.IntN(len(working))]
}

// rest is how long a victim is left alone that was killed often enough.
const rest = 4 * time.Second

// pause lets time pass: nothing is waited for, the moment is to be random. Short pauses are likelier: who has just come back has
// most to do.
func (c *chaos) pause(upTo time.Duration) {
	share := c.rng.Float64()
	time.Sleep(time.Duration(share * share * share * float64(upTo)))
}

func (c *chaos) log(round int, p shop.Progress, victims []*role, how string) {
	var names []string
	for _, v := range victims {
		names = append(names, fmt.Sprintf("%s (%d behind)", v.name, v.behind))
	}
	c.w.t.Logf("round %2d, %5d events committed: kill -9 %s%s", round, p.Events, strings.Join(names, " and "), how)
}
