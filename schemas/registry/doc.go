// Package registry is a client of Confluent-compatible schema registries: Confluent's own, Apicurio, Karapace, Redpanda
// and others. It puts github.com/riferrei/srclient behind calls that take a context, end in time, share requests, keep
// answers, and return errors that a caller can decide by: ErrNotFound, ErrInvalid, ErrUnauthorized, ErrUnavailable and
// *ErrIncompatible.
//
// Non-obvious:
//   - Only a registry's own error code makes ErrNotFound. A wrong path or a proxy's 404 must not look like an unknown
//     schema, or consumers would set good records aside as poison.
//   - srclient asks for compatibility with one version only. The rule of a subject can name all of them, so the version
//     is left out of the path.
//   - After CreateSchema the version is 0; Lookup knows it.
package registry
