// Package webhook posts each event to somebody's HTTP server, signed: the model of a sink whose effect is elsewhere. It is a fold.Sink in four parts, and a sink of another
// kind that cannot store a position with its effect can be made the same way:
//
//	position.Log   keeps owner, position and quarantine on a topic, for the server at the other end keeps nothing for us
//	deliver.go     posts the events of a batch: of a key in order, of several keys at the same time
//	request.go     makes a request of an event
//	sign.go        signs it
//	sink.go        Claim and Commit: deliver, then move the position
//
// What holds:
//
//  1. Each event is posted at least once. The position moves when everything before it was answered with success, put aside or left out.
//  2. An event is posted after those of its key before it were answered with success. Keys do not wait for each other, within a batch (promise 2).
//  3. A repetition, after a crash or an answer that got lost, has the same webhook-id and ce-id: the receiver knows it by that. Nothing better can be
//     promised of an effect that is not ours.
//  4. What the server will never take (400, 404, 410, ...) is put aside with the later events of its key, and is redriven as anything else (promise 7).
//     Where the server is busy or away, the partition waits, and stays this process's.
//
// # What is posted
//
// A CloudEvent in binary mode (CloudEvents 1.0.2, HTTP protocol binding, 3.1): the body is the event's fields as JSON, headers say the rest. It is
// signed as Standard Webhooks 1.0.0 has it (https://www.standardwebhooks.com): webhook-signature is "v1," and the HMAC-SHA256 of
// "id.timestamp.body" in base64, one for each secret, so that a secret can be changed without a gap.
//
//	ce-id, webhook-id       the event's id, the idempotency key; webhook-id is its hash where an id has characters that a signature must not hold
//	ce-type, ce-source      as on the topic
//	ce-time                 when it occurred
//	ce-partitionkey         the key
//	ce-millraceseq          the version: it grows with each event of a key, so a receiver can tell what is older than what it has
//	webhook-timestamp       when it was posted
//	traceparent             of the writer
//
// Metrics, all with a label sink: millrace_webhook_answers_total (by class: ok, transient, systemic, poison), millrace_webhook_seconds.
package webhook
