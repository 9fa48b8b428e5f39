package conf

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS says how connections are encrypted. Empty means they are not (Kafka), or that the system's authorities are trusted (https). A
// server whose certificate cannot be verified is never talked to: there is no switch for that, CA and ServerName say what to expect.
type TLS struct {
	// Enabled switches TLS on with the system's certificate authorities; the fields below imply it.
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file with the authorities to trust instead.
	CA string `yaml:"ca"`
	// Cert and Key are PEM files with a client certificate.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// ServerName is the name to expect in the server's certificate. Default: the host that is connected to.
	ServerName string `yaml:"server_name"`
}

// Config is what crypto/tls makes of it, nil for what is empty. It reads the files.
func (t TLS) Config() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("load cert and key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
