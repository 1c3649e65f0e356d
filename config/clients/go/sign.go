// Has standard input signed with net/http, checks the signature, and prints it in base64.
//
//	go build sign.go && ./sign <FILE
package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Refused is an answer. Do not sign with a key of your own, and do not ask again at once: fail your own
// request or stay read-only, and come back after RetryAfter seconds, if there are any.
type Refused struct {
	Status     int
	Reason     string `json:"reason"`
	Detail     string `json:"detail"`
	RetryAfter int    `json:"retry_after_s"`
}

func (r *Refused) Error() string {
	return fmt.Sprintf("refused: %s (HTTP %d): %s, retry after %d s", r.Reason, r.Status, r.Detail, r.RetryAfter)
}

// One for the whole program: it keeps connections.
func newClient() (*http.Client, error) {
	authority, err := os.ReadFile(os.Getenv("SIGNING_PROXY_CA"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool() // this authority alone is trusted
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("SIGNING_PROXY_CA has no certificate")
	}
	config := &tls.Config{
		RootCAs: roots,
		// Read at each handshake, so that a renewed certificate needs no restart.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(os.Getenv("SIGNING_PROXY_CLIENT_CERT"), os.Getenv("SIGNING_PROXY_CLIENT_KEY"))
			return &pair, err
		},
	}
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

type signed struct {
	Signature []byte `json:"signature"` // base64
	Kid       string `json:"signer_kid"`
}

func sign(client *http.Client, message []byte) (*signed, error) {
	// Without a signer_kid it is your default signer.
	body, err := json.Marshal(struct {
		Message []byte `json:"message"`
		Kid     string `json:"signer_kid,omitempty"`
	}{message, os.Getenv("SIGNCTL_SIGNER")})
	if err != nil {
		return nil, err
	}
	answer, err := client.Post(os.Getenv("SIGNING_PROXY_URL")+"/v1/sign", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		refused := &Refused{Status: answer.StatusCode, Reason: "no reason given"}
		_ = json.Unmarshal(text, refused) // if it is no JSON, it was not the proxy that answered
		return nil, refused
	}
	var result signed
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, err
	}
	return &result, verify(message, result.Kid, result.Signature)
}

// verify looks the key up in this machine's own copy of the registry: what the proxy says of itself
// proves nothing. In an emergency the key is another one, which the registry has too.
func verify(message []byte, kid string, signature []byte) error {
	text, err := os.ReadFile(os.Getenv("SIGNCTL_SIGNERS"))
	if err != nil {
		return err
	}
	var registry struct {
		Signers []struct {
			Kid       string `json:"signer_kid"`
			Algorithm string `json:"algorithm"`
			PublicKey string `json:"public_key_pem"`
			RevokedAt string `json:"revokedAt"`
		} `json:"signers"`
	}
	if err := json.Unmarshal(text, &registry); err != nil {
		return err
	}
	for _, signer := range registry.Signers {
		if signer.Kid != kid || signer.RevokedAt != "" {
			continue
		}
		block, _ := pem.Decode([]byte(signer.PublicKey))
		if block == nil {
			return fmt.Errorf("NOT VERIFIED: the key of %s is no PEM", kid)
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return err
		}
		if !verifies(public, signer.Algorithm, message, signature) {
			return fmt.Errorf("NOT VERIFIED under the registered key of %s (%s)", kid, signer.Algorithm)
		}
		return nil
	}
	return fmt.Errorf("NOT VERIFIED: %s is not registered, or revoked", kid)
}

// The registry says which algorithm it is, never the answer. Add what your registry has.
func verifies(public any, algorithm string, message, signature []byte) bool {
	digest := sha256.Sum256(message)
	switch key := public.(type) {
	case ed25519.PublicKey:
		return algorithm == "ed25519" && ed25519.Verify(key, message, signature)
	case *ecdsa.PublicKey:
		return algorithm == "ecdsa-p256-sha256" && ecdsa.VerifyASN1(key, digest[:], signature)
	case *rsa.PublicKey:
		return algorithm == "rsa-sha256" && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

func main() {
	client, err := newClient()
	if err == nil {
		err = run(client)
	}
	var refused *Refused
	switch {
	case errors.As(err, &refused) && refused.RetryAfter > 0:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(75)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(client *http.Client) error {
	message, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	result, err := sign(client, message)
	if err != nil {
		return err
	}
	fmt.Println(base64.StdEncoding.EncodeToString(result.Signature))
	return nil
}
