package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/millrace/millrace/services/internal/conf"
)

// Kafka says how the brokers are reached.
type Kafka struct {
	// Brokers are host:port addresses to begin with; the rest is learned from them. Required.
	Brokers []string `yaml:"brokers"`
	// ClientID is what the brokers' logs and quotas call this program. Default "millrace".
	ClientID string   `yaml:"client_id"`
	TLS      conf.TLS `yaml:"tls"`
	SASL     SASL     `yaml:"sasl"`
}

// SASL says who this program is. Empty means it does not say.
type SASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512.
	Mechanism string `yaml:"mechanism"`
	Username  string `yaml:"username"`
	// Password is best given as ${VAR} or ${file:PATH}.
	Password string `yaml:"password"`
}

// metadataMinAge lets a client learn of a new topic soon; the default of 5 s would stall the first produce.
const metadataMinAge = 100 * time.Millisecond

// options are those of every Kafka client of this program.
func (k Kafka) options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(k.Brokers...), kgo.ClientID(k.ClientID), kgo.MetadataMinAge(metadataMinAge)}
	t, err := k.TLS.Config()
	if err != nil {
		return nil, err
	}
	if t != nil {
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	switch k.SASL.Mechanism {
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: k.SASL.Username, Pass: k.SASL.Password}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: k.SASL.Username, Pass: k.SASL.Password}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: k.SASL.Username, Pass: k.SASL.Password}.AsSha512Mechanism()))
	}
	return opts, nil
}
