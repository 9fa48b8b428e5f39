package avro

// Planned says whether the selection has a plan, or leaves everything to Decode.
func (s *Selection) Planned() bool { return s.planned }
