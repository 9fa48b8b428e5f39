// Package schemas reads Avro schemas: the contract between the programs that write events and everything that follows
// them. It turns a folder of .avsc files, or one text from a registry, into schemas that are complete in themselves,
// written in one normal form, and identified by a fingerprint over all of their meaning.
//
// Files, in the order in which a schema passes through them:
//
//	json.go        text -> JSON tree that knows its lines, limited in size and depth
//	load.go        a folder -> trees -> catalogue
//	define.go      which named type is defined where
//	normalise.go   tree -> normal form: names in full, each type defined where it is first used
//	attributes.go  which attribute stands where in the normal form
//	render.go      normal form -> text, with and without documentation
//	properties.go  millrace.topic and millrace.key
//	schema.go      Schema and Parse
//	catalogue.go   Catalogue
//
// Sub-packages: avro encodes and decodes, avro/container keeps Avro container files, registry talks to schema
// registries. Package shop is the example domain; nothing else knows it.
package schemas
