package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority of one test.
type Authority struct {
	File string // PEM file of its certificate

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

// NewAuthority makes one; its files go with the test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir(), key: newKey(t)}
	template := certificate("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.File = filepath.Join(a.dir, "authority.pem")
	writePEM(t, a.File, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// Issue returns PEM files with a certificate for name, as a server at 127.0.0.1 under that name or as a client, and its key.
func (a *Authority) Issue(t testing.TB, name string) (cert, key string) {
	t.Helper()
	template := certificate(name)
	template.DNSNames, template.IPAddresses = []string{name}, []net.IP{net.IPv4(127, 0, 0, 1)}
	return a.issue(t, template)
}

// IssueElsewhere is Issue without the address: the certificate is right under its name only.
func (a *Authority) IssueElsewhere(t testing.TB, name string) (cert, key string) {
	t.Helper()
	template := certificate(name)
	template.DNSNames = []string{name}
	return a.issue(t, template)
}

func (a *Authority) issue(t testing.TB, template *x509.Certificate) (cert, key string) {
	t.Helper()
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	private := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	base := filepath.Join(a.dir, Unique(template.Subject.CommonName))
	cert, key = base+".crt", base+".key"
	writePEM(t, cert, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	writePEM(t, key, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return cert, key
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // crypto/rand does not fail
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func writePEM(t testing.TB, path string, block *pem.Block) {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
}
