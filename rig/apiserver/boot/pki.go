package boot

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const validYears = 10

// authority signs certificates until its process ends; its key is kept beside its certificate.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// makePKI writes the certificate authority, the certificates of server and admin and the key pair that signs service account tokens.
func (s *Server) makePKI() {
	f := s.files
	ca := newAuthority(f)
	ca.issue(f, "server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(s.options.Bind), net.IPv4(10, 96, 0, 1)},
	})
	ca.issue(f, "admin", &x509.Certificate{
		Subject:     pkix.Name{CommonName: adminUser, Organization: []string{mastersGroup}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	writePEM(f.key("sa"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(signer))
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	must(err)
	writePEM(f.serviceAccountPublic(), "PUBLIC KEY", public)
}

func newAuthority(f files) authority {
	key := newKey()
	now := time.Now().Add(-time.Hour)
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rig-ca"}, NotBefore: now, NotAfter: now.AddDate(validYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	ca := authority{certificate: certificate, key: key}
	writePEM(f.cert("ca"), "CERTIFICATE", ca.sign(certificate, key.Public()))
	writeKey(f.key("ca"), key)
	return ca
}

func (a authority) issue(f files, name string, template *x509.Certificate) {
	key := newKey()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = a.certificate.NotBefore, a.certificate.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	writePEM(f.cert(name), "CERTIFICATE", a.sign(template, key.Public()))
	writeKey(f.key(name), key)
}

func (a authority) sign(template *x509.Certificate, public crypto.PublicKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	must(err)
	return der
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return key
}

func writeKey(path string, key *ecdsa.PrivateKey) {
	der, err := x509.MarshalECPrivateKey(key)
	must(err)
	writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, block string, der []byte) {
	writeWhole(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}))
}

// writeWhole writes a file that its readers see whole or not at all.
func writeWhole(path string, body []byte) {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
	must(os.WriteFile(temporary, body, 0o600))
	must(os.Rename(temporary, path))
}
