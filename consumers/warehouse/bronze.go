package warehouse

import "fmt"

// Bronze says what a warehouse keeps of events.
type Bronze string

const (
	// BronzeJSON keeps every event with its fields as JSON beside the payload.
	BronzeJSON Bronze = "json"
	// BronzePayload keeps every event without its fields: the payload is the Avro binary.
	BronzePayload Bronze = "payload"
	// BronzeOff keeps no events.
	BronzeOff Bronze = "off"
)

// CheckBronze says what is wrong with a Bronze; one that is not set is as good as any.
func CheckBronze(b Bronze) error {
	switch b {
	case "", BronzeJSON, BronzePayload, BronzeOff:
		return nil
	}
	return fmt.Errorf("%q is none of json, payload, off", b)
}
