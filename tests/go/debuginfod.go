// Stands in for debuginfod servers: one by HTTP and one by HTTPS that send what is in a directory, one that sends the same
// file for each build id, and one that hangs up on whoever connects.
//
//	debuginfod DIRECTORY WRONG
//
// It writes the certificate of the authority to DIRECTORY/authority.pem, prints the addresses in that order, and adds a byte
// to DIRECTORY/calls each time that the last one is called.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	return listener
}

// A key and a certificate for it, signed by another or by itself.
func certify(serial int64, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("number %d", serial)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
	}
	if parent == nil {
		template.IsCA = true
		template.KeyUsage = x509.KeyUsageCertSign
		parent, parentKey = template, key
	} else {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	must(err)
	certificate, err := x509.ParseCertificate(encoded)
	must(err)
	return certificate, key
}

func main() {
	directory, wrong := os.Args[1], os.Args[2]
	authority, authorityKey := certify(1, nil, nil)
	certificate, key := certify(2, authority, authorityKey)
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	must(os.WriteFile(filepath.Join(directory, "authority.pem"), encoded, 0o600))

	files := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		part := strings.Split(request.URL.Path, "/")
		if len(part) != 4 || part[1] != "buildid" || part[3] != "debuginfo" {
			http.Error(answer, "not found", http.StatusNotFound)
			return
		}
		http.ServeFile(answer, request, filepath.Join(directory, part[2]+".debug"))
	})
	same := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		http.ServeFile(answer, request, wrong)
	})
	plain, safe, confused, rude := listen(), listen(), listen(), listen()
	go http.Serve(plain, files)
	pair := tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}
	go http.Serve(tls.NewListener(safe, &tls.Config{Certificates: []tls.Certificate{pair}}), files)
	go http.Serve(confused, same)
	fmt.Printf("http://%s\nhttps://%s\nhttp://%s\nhttp://%s\n", plain.Addr(), safe.Addr(), confused.Addr(), rude.Addr())
	calls, err := os.Create(filepath.Join(directory, "calls"))
	must(err)
	for {
		connection, err := rude.Accept()
		must(err)
		_, err = calls.WriteString(".")
		must(err)
		must(connection.Close())
	}
}
