// Package opensearch keeps search documents in OpenSearch, or what speaks its API: fold.Sink and search.Searcher over plain HTTP.
//
// # What it promises
//
//  1. The documents are those of applying each event once, whatever is redelivered, cut off or killed (promise 4). There are no
//     transactions to lean on: every document carries the event's version and the server refuses an older one, the position is written
//     last, and only if nobody has claimed the partition meanwhile.
//  2. A former owner is refused before it writes. One that was checked and then stood still writes what the new owner writes, or
//     what the server refuses for its version; its position is refused.
//  3. A batch that Commit acknowledged is on the disks: of the primary, and of every replica in sync.
//  4. Load returns a state exactly as it was committed: the document carries it, encoded, and is got by its id, never searched for.
//  5. A deleted state stays as a stub with its version; no search, and no reader of the aliases, sees it. There is no age at which
//     it goes: the server would forget the version of a really deleted document after index.gc_deletes (60 s), and an event delivered
//     again after that would bring the document back.
//  6. Every item of an answer is read. What the cluster has no room for (429, 503) is sent again, and nothing else is. A document
//     that it cannot index (400) is stored without its columns and says why in _unindexed: the stream goes on, nothing is dropped
//     (promise 7). A quarter of a large request refused is no document's fault and stops the sink; so do refused credentials (401, 403).
//  7. Documents of two declarations never mix, and an index that somebody deleted, restored or made anew is noticed before the
//     sink goes on at a position that does not belong to it.
//  8. Readers find one generation, whole, at any time (promise 8). What serves is not removed; the rest goes in one request.
//
// # How
//
// An entity has an index of its own (PREFIX-ENTITY-gN, N being the generation), written to and read through the alias
// PREFIX-ENTITY-gN.rw, for a write through an alias that is gone makes no new index. Others search by the alias PREFIX-ENTITY, which shows what
// exists. A document's id is the key, or a digest of one that is too long. The index PREFIX.positions-gN has a document a partition (epoch,
// position, quarantined keys), changed by compare-and-set on its sequence number, and one that says which declarations and which indices
// belong together. A generation takes the readers over, all entities in one request, when Serve is called; none does so by itself. While it is built its
// indices are neither refreshed nor replicated (Config.Building), and what they are to be afterwards stands in the declaration.
//
// A batch is one bulk request of 8 MiB at most, or several where other partitions leave room: requests of all of them share three slots,
// for a cluster is faster with three under way than with one.
//
//	config.go, errors.go  what is configured; what goes wrong, and whether it passes
//	client.go             requests and answers, bounded
//	sink.go               Open, Close
//	names.go              indices, aliases, ids
//	layout.go             columns -> mapping; document.go: states -> documents (jsontext.go, sortable.go)
//	prepare.go            indices made, found or refused
//	building.go           what is put off while nobody reads; generation.go: Serve, Remove, who serves
//	record.go             Claim, Positions: the documents of partitions
//	load.go               Load
//	commit.go             Commit: check, write, move (bulk.go, verdict.go: one request, and what became of each document)
//	overrule.go           documents whose version is no event's, for a stranger has changed them
//	replace.go            states folded anew, at an equal version
//	snapshot.go           all states, by a point in time; shown.go: as readers see them
//	metrics.go            millrace_search_documents_total{outcome}, millrace_search_repeats_total, millrace_search_bulk_seconds
//	search.go             Search; question.go: a query, as package query understands it, in the server's terms
//
// # Non-obvious
//
//   - A bulk request succeeds with 200 whatever becomes of its documents.
//   - A conflict of versions (409) is success if the state in the document has that version or a later one. The document's own version
//     alone proves nothing: a change or a removal by anybody else adds one to it, and is remembered for a minute after a removal.
//   - Decimals stand in the source with every digit, and are indexed as doubles. One of more than 15 digits has a sortable form in _sort as well,
//     by which it is sorted and compared exactly. Times are indexed to the millisecond. The fields of a hit are exact in any case.
//   - Settings that are an operator's to decide (shards, replicas) are not set: the cluster's defaults and templates hold.
package opensearch
