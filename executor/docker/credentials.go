package docker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
)

// maxCredentials bounds the credentials file, in bytes.
const maxCredentials = 1 << 20

// credentials reads the login to a registry from a file of "docker login", in
// the form that the engine wants. Credential helpers are not asked.
func credentials(file, domain string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return decodeCredentials(io.LimitReader(f, maxCredentials), domain)
}

func decodeCredentials(r io.Reader, domain string) (string, error) {
	var logins struct {
		Auths map[string]registry.AuthConfig `json:"auths"`
	}
	if err := json.NewDecoder(r).Decode(&logins); err != nil {
		return "", err
	}
	names := []string{domain, "https://" + domain, "https://" + domain + "/v1/", "https://" + domain + "/v2/"}
	if domain == "docker.io" {
		names = append(names, "https://index.docker.io/v1/") // Docker Hub's historic key
	}
	for _, name := range names {
		login, ok := logins.Auths[name]
		if !ok {
			continue
		}
		if err := splitAuth(&login); err != nil {
			return "", err
		}
		login.ServerAddress = name
		return authconfig.Encode(login)
	}
	return "", nil
}

// splitAuth fills user and password from "docker login"'s base64 of "user:password".
func splitAuth(login *registry.AuthConfig) error {
	if login.Auth == "" {
		return nil
	}
	plain, err := base64.StdEncoding.DecodeString(login.Auth)
	if err != nil {
		return errors.New("an auth entry is not base64") // without the text: it is a secret
	}
	user, password, ok := strings.Cut(string(plain), ":")
	if !ok {
		return errors.New("an auth entry is not user:password")
	}
	login.Username, login.Password, login.Auth = user, strings.TrimRight(password, "\x00"), ""
	return nil
}
