package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/riferrei/srclient"
)

// Compatibility returns the rule by which new versions under a subject are refused, such as BACKWARD or NONE: its own or, if it has
// none, that of all; without a subject, that of all. Apicurio says NONE of a subject without a rule, whatever holds for all: ask
// Compatible. Errors: ErrNotFound where there is neither, ErrUnauthorized, ErrUnavailable.
func (c *Client) Compatibility(ctx context.Context, subject string) (level string, err error) {
	path := "/config"
	if subject != "" {
		path += "/" + url.PathEscape(subject) + "?defaultToGlobal=true"
	}
	var answer struct {
		Level string `json:"compatibilityLevel"`
	}
	err = c.get(ctx, "compatibility level", path, &answer)
	return answer.Level, err
}

// Mode returns whether the registry takes new schemas: READWRITE, READONLY or IMPORT. Errors: ErrUnavailable where it does not know
// modes, ErrUnauthorized.
func (c *Client) Mode(ctx context.Context) (mode string, err error) {
	var answer struct {
		Mode string `json:"mode"`
	}
	err = c.get(ctx, "mode", "/mode", &answer)
	return answer.Mode, err
}

// get asks for what srclient does not know.
func (c *Client) get(ctx context.Context, what, path string, answer any) error {
	return c.call(ctx, what, "", func(_ *srclient.SchemaRegistryClient, tr *transport) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.URL+path, nil)
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return json.NewDecoder(resp.Body).Decode(answer)
		}
		var said struct {
			Code    int    `json:"error_code"`
			Message string `json:"message"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
			return fmt.Errorf("HTTP status %d", resp.StatusCode)
		}
		return srclient.Error{Code: said.Code, Message: said.Message}
	})
}
