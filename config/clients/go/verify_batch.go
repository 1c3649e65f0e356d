// Checks a batch signer's signature (docs/reference/batch.md) under this machine's registry, signers.json.
//
//	go build verify_batch.go && SIGNCTL_SIGNERS=signers.json ./verify_batch KID DEPLOYMENT message|digest PROOF_FILE <INPUT
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// A Signer is an entry of the registry.
type Signer struct {
	Kid       string `json:"signer_kid"`
	Algorithm string `json:"algorithm"`
	PEM       string `json:"public_key_pem"`
	Mode      string `json:"mode"`
	RevokedAt string `json:"revokedAt"`
}

var algorithms = map[string]string{"ed25519": "ED25519_SHA_512", "ecdsa-p256-sha256": "ECDSA_SHA_256"}

// Extra, index, path, note, key name, size, root, key name, signature.
var form = regexp.MustCompile(`\Ac2sp\.org/tlog-proof@v1\nextra ([!-~]+)\nindex (\d+)\n((?:[!-~]+\n)*)\n` +
	`(([!-~]+)/[0-9a-f]{32}\n(\d+)\n([!-~]+)\n)\n\x{2014} ([!-~]+) ([!-~]+)\n\z`)

func sum(parts ...[]byte) []byte {
	hash := sha256.Sum256(bytes.Join(parts, nil))
	return hash[:]
}

// Verify fails unless proof is the signature of the batch signer over given, a "message" or a "digest".
func Verify(proof string, signer Signer, deployment, kind string, given []byte) error {
	name, algorithm := deployment+"/batch/"+signer.Kid, algorithms[signer.Algorithm]
	block, _ := pem.Decode([]byte(signer.PEM))
	if signer.Mode != "batch" || signer.RevokedAt != "" || algorithm == "" || block == nil {
		return errors.New("no batch signer, or revoked")
	}
	found := form.FindStringSubmatch(proof)
	if found == nil || found[5] != name || found[8] != name {
		return errors.New("no proof of this key")
	}
	index, err1 := strconv.ParseUint(found[2], 10, 63)
	size, err2 := strconv.ParseUint(found[6], 10, 63)
	if err1 != nil || err2 != nil || fmt.Sprint(index) != found[2] || fmt.Sprint(size) != found[6] || index >= size {
		return errors.New("no such leaf")
	}
	var hashes [][]byte // The random bytes, the root, the path, and the signature's line.
	for _, text := range append([]string{found[1], found[7]}, append(strings.Fields(found[3]), found[9])...) {
		decoded, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return err
		}
		hashes = append(hashes, decoded)
	}
	random, root, path, line := hashes[0], hashes[1], hashes[2:len(hashes)-1], hashes[len(hashes)-1]
	leaf := append([]byte("\x00signing-proxy batch v1\x00"), random...)
	for _, text := range []string{signer.Kid, algorithm, kind} {
		leaf = append(binary.BigEndian.AppendUint16(leaf, uint16(len(text))), text...)
	}
	node, last := sum(leaf, sum(given)), size-1
	for _, sibling := range path { // RFC 9162, section 2.1.3.2
		if last == 0 || len(sibling) != 32 {
			return errors.New("the path is too long, or a hash in it")
		}
		if index%2 == 1 || index == last {
			node = sum([]byte{1}, sibling, node)
			for index > 0 && index%2 == 0 {
				index, last = index/2, last/2
			}
		} else {
			node = sum([]byte{1}, node, sibling)
		}
		index, last = index/2, last/2
	}
	if last != 0 || len(random) != 32 || len(line) < 4 || !bytes.Equal(node, root) {
		return errors.New("the path does not lead to the root")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	var id []byte
	var holds bool
	switch key := parsed.(type) {
	case ed25519.PublicKey:
		id = sum([]byte(name+"\n\x01"), key)
		holds = signer.Algorithm == "ed25519" && ed25519.Verify(key, []byte(found[4]), line[4:])
	case *ecdsa.PublicKey:
		id = sum(block.Bytes)
		holds = signer.Algorithm != "ed25519" && ecdsa.VerifyASN1(key, sum([]byte(found[4])), line[4:])
	}
	if err != nil || !holds || !bytes.Equal(id[:4], line[:4]) {
		return errors.New("the note is not signed by this key")
	}
	return nil
}

func main() {
	err := errors.New("give KID DEPLOYMENT message|digest PROOF_FILE, and the input on standard input")
	if len(os.Args) == 5 {
		err = run(os.Args[1], os.Args[2], os.Args[3], os.Args[4])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "NOT VERIFIED:", err)
		os.Exit(1)
	}
	fmt.Println("verified")
}

func run(kid, deployment, kind, file string) error {
	registry, err1 := os.ReadFile(os.Getenv("SIGNCTL_SIGNERS"))
	proof, err2 := os.ReadFile(file)
	given, err3 := io.ReadAll(os.Stdin)
	var document struct{ Signers []Signer }
	for _, err := range []error{err1, err2, err3, json.Unmarshal(registry, &document)} {
		if err != nil {
			return err
		}
	}
	for _, signer := range document.Signers {
		if signer.Kid == kid {
			return Verify(string(proof), signer, deployment, kind, given)
		}
	}
	return errors.New("the registry does not have " + kid)
}
