// Package harness starts the real servers that tests run against, as plain
// processes on loopback: PostgreSQL, Apache Kafka (KRaft), Apicurio Registry,
// Redis and OpenSearch. It also builds and runs the real millrace binary.
//
// A test asks for what it needs and gets something of its own:
//
//	pg := harness.Postgres(t)       // a fresh database on the shared server
//	broker := harness.Kafka(t)      // the shared broker; broker.NewTopic(t, 4)
//	url := harness.Registry(t)      // the shared registry; subjects follow topics
//	cache := harness.Redis(t)       // a numbered database of its own
//	search := harness.OpenSearch(t) // the shared node; names of indices begin with Unique
//
// Shared servers are started on first use and live as long as the test binary.
// Under `make test` one set serves every test binary of the run: the command
// test/harness/cmd/servers starts them, names them in the environment
// (MILLRACE_TEST_POSTGRES, _KAFKA, _REGISTRY, _REDIS) and stops them at the
// end. OpenSearch, which few tests need, is named there when it is asked for
// (MILLRACE_TEST_OPENSEARCH). What may not be shared, such as a server that is to be killed, is
// started with PostgresServer, KafkaServer, RegistryServer, RedisServer or
// OpenSearchServer.
//
// # Guarantees
//
//  1. A server never outlives the process that started it, however that process
//     ended. (On Linux, by the parent-death signal; elsewhere only an orderly end
//     stops the servers.)
//  2. A part that cannot be had is named with the command that installs it. It
//     fails the test when CI is set, and skips it otherwise.
//  3. With -short no Java server is started.
//  4. What is fetched is fetched once per machine, into Cache(), whatever number
//     of test binaries run at the same time.
//  5. Every server listens on 127.0.0.1 alone.
//
// # Files, in the order in which a server comes to life
//
//	cache.go        where fetched things live; one fetch at a time
//	maven.go        Kafka, Apicurio, OpenSearch and Debezium out of Maven, by the poms in poms/
//	missing.go      what is said about a part that is not there
//	workdir.go      a directory per process; leftovers of dead ones are swept
//	ports.go        ports below the range the kernel hands to clients
//	process.go      a child: its signals, its end (start_*.go, limit_*.go, children*.go); logs.go: its output
//	shared.go       one server for all tests of this process, or of this run
//	postgres*.go    PostgreSQL: binaries, server, databases; standbys, dumps, copies of the volume
//	pgbouncer.go    PgBouncer before a PostgreSQL
//	kafka*.go, registry.go, redis.go, opensearch.go
//	silent.go       a broker, and a port, that say nothing
//	certificates.go an authority of one test, for servers that speak TLS
//	binary.go       the millrace binary
//	servers.go      what cmd/servers starts
//	program.go      the same for programs that are no tests
package harness
