package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const certLife = 365 * 24 * time.Hour

// A keyPair is a certificate and its key, in PEM.
type keyPair struct{ cert, key []byte }

// An authority signs the certificates of one cluster. Nothing that another
// cluster signed is accepted here, so that a server on a mistaken port is noticed.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := newTemplate(pkix.Name{CommonName: "watcher test cluster"}, certLife)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: encodePEM("CERTIFICATE", der)}, nil
}

// server returns a certificate for servers on this machine. It serves as a
// client's too: etcd's own gateway dials etcd with it.
func (a *authority) server() (keyPair, error) {
	template := newTemplate(pkix.Name{CommonName: "localhost"}, certLife)
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

// client returns a certificate for a user; life < 0 means that it has expired.
func (a *authority) client(user string, life time.Duration, groups ...string) (keyPair, error) {
	template := newTemplate(pkix.Name{CommonName: user, Organization: groups}, life)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

func newTemplate(subject pkix.Name, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      subject,
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func (a *authority) sign(template *x509.Certificate) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign a certificate for %s: %w", template.Subject, err)
	}
	keyPEM, err := encodeKey(key)
	return keyPair{cert: encodePEM("CERTIFICATE", der), key: keyPEM}, err
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return encodePEM("EC PRIVATE KEY", der), err
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeCerts makes the cluster's certificates and keys and writes those that
// the servers read: ca.crt, server.crt, server.key, client.crt, client.key and
// service-account.key.
func writeCerts(dir string) (ca *authority, admin keyPair, err error) {
	if ca, err = newAuthority(); err != nil {
		return nil, keyPair{}, err
	}
	server, err := ca.server()
	if err != nil {
		return nil, keyPair{}, err
	}
	if admin, err = ca.client("admin", certLife, "system:masters"); err != nil {
		return nil, keyPair{}, err
	}
	tokens, err := ca.client("service-account", certLife)
	if err != nil {
		return nil, keyPair{}, err
	}
	for name, data := range map[string][]byte{
		"ca.crt":     ca.pem,
		"server.crt": server.cert, "server.key": server.key,
		"client.crt": admin.cert, "client.key": admin.key,
		"service-account.key": tokens.key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, keyPair{}, err
		}
	}
	return ca, admin, nil
}
