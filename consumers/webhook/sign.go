package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// secretPrefix begins a secret, and Standard Webhooks bounds what follows it, in bytes.
const (
	secretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
	maxSecrets   = 4
)

// ErrSecret is what is wrong with a secret. No part of it is in the message.
var ErrSecret = errors.New("a secret is whsec_ and 24 to 64 random bytes in base64; make one: echo whsec_$(openssl rand -base64 32)")

// ReadSecrets reads one secret, or several with blanks between them: while a secret is being changed, the new one and the old.
func ReadSecrets(text string) ([][]byte, error) {
	var all [][]byte
	for _, word := range strings.Fields(text) {
		encoded, ok := strings.CutPrefix(word, secretPrefix)
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return nil, ErrSecret
		}
		all = append(all, secret)
	}
	if len(all) == 0 {
		return nil, ErrSecret
	}
	if len(all) > maxSecrets {
		return nil, fmt.Errorf("%d secrets are more than %d", len(all), maxSecrets)
	}
	return all, nil
}

// sign returns the value of webhook-signature.
func sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	var b strings.Builder
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}
