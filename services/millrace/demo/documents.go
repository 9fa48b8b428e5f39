package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/services/shop"
)

// proveDocuments holds the warehouse's rows and the index's documents against the shop's own tables.
func proveDocuments(ctx context.Context, w Where, pool *pgxpool.Pool) ([]Check, error) {
	truth, err := shop.ReadTruth(ctx, pool, "shop", "outbox")
	if err != nil {
		return nil, err
	}
	rows, err := warehouseRows(ctx, w)
	if err != nil {
		return nil, err
	}
	documents, err := searchDocuments(ctx, w, truth)
	if err != nil {
		return nil, err
	}
	want := expected(truth)
	return []Check{
		compare("warehouse = the application's own tables", want, rows),
		compare("search documents = the application's own tables", want, documents),
	}, nil
}

// expected is what every entity must look like, by entity and key.
func expected(t *shop.Truth) map[string]string {
	out := map[string]string{}
	for id, o := range t.Orders {
		out["order "+id] = line(o.CustomerID, o.Status, o.Total)
	}
	for id, c := range t.Customers {
		out["customer "+id] = line(c.Name, c.City)
	}
	for id, p := range t.Products {
		out["product "+id] = line(p.Name, p.Price, fmt.Sprint(p.RowVersion))
	}
	return out
}

func line(values ...string) string { return fmt.Sprintf("%q", values) }

// compare counts the entities that are missing, that should not be there, and that differ.
func compare(claim string, want, got map[string]string) Check {
	missing, extra, differ := 0, 0, 0
	example := ""
	for id, text := range want {
		switch other, ok := got[id]; {
		case !ok:
			missing++
			example = "; for example " + id + " is missing"
		case other != text:
			differ++
			example = fmt.Sprintf("; for example %s is %s and not %s", id, other, text)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			extra++
		}
	}
	return Check{claim, missing+extra+differ == 0,
		fmt.Sprintf("%s entities compared; %d missing, %d too many, %d differ%s", number(int64(len(want))), missing, extra, differ, example)}
}

// warehouseRows reads every entity from silver.
func warehouseRows(ctx context.Context, w Where) (map[string]string, error) {
	out := map[string]string{}
	for _, sql := range []string{
		`select 'order ' || _key, customer_id, status, cast(total as varchar) from silver."order"`,
		`select 'customer ' || _key, name, city from silver.customer`,
		`select 'product ' || _key, name, cast(price as varchar), cast(row_version as varchar) from silver.product`,
	} {
		rows, err := askSQL(ctx, w.SQL, sql)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			var values []string
			for _, v := range r[1:] {
				values = append(values, fmt.Sprint(v))
			}
			out[fmt.Sprint(r[0])] = line(values...)
		}
	}
	return out, nil
}

// searchDocuments reads every document: the orders customer by customer, for an answer holds a bounded number of hits.
func searchDocuments(ctx context.Context, w Where, t *shop.Truth) (map[string]string, error) {
	out := map[string]string{}
	read := func(entity, query string, fields ...string) error {
		for from := 0; ; from += searchPage {
			page, err := askSearch(ctx, w.Search, url.Values{"entity": {entity}, "q": {query}, "size": {fmt.Sprint(searchPage)}, "from": {fmt.Sprint(from)}})
			if err != nil {
				return err
			}
			for _, h := range page.Hits {
				var values []string
				for _, f := range fields {
					values = append(values, field(h.Fields[f], f))
				}
				out[entity+" "+h.Key] = line(values...)
			}
			if len(page.Hits) < searchPage {
				return nil
			}
		}
	}
	for id := range t.Customers {
		if err := read("order", fmt.Sprintf("customer_id:%q", id), "customer_id", "status", "total"); err != nil {
			return nil, err
		}
	}
	if err := read("customer", "", "name", "city"); err != nil {
		return nil, err
	}
	return out, read("product", "", "name", "price", "row_version")
}

const searchPage = 500

// field shows a value as the shop's tables do: amounts have two digits behind the point.
func field(v any, name string) string {
	text := fmt.Sprint(v)
	if name == "total" || name == "price" {
		if r, ok := new(big.Rat).SetString(text); ok {
			return r.FloatString(2)
		}
	}
	return text
}

// hits is an answer of the index.
type hits struct {
	Total int64 `json:"total"`
	Hits  []struct {
		Key    string         `json:"key"`
		Fields map[string]any `json:"fields"`
	} `json:"hits"`
}

func askSearch(ctx context.Context, base string, v url.Values) (hits, error) {
	var h hits
	v.Set("timeout", "10s")
	err := ask(ctx, http.MethodGet, base+"?"+v.Encode(), nil, &h)
	return h, err
}

func askSQL(ctx context.Context, base, sql string) ([][]any, error) {
	var answer struct {
		Rows      [][]any `json:"rows"`
		Truncated bool    `json:"truncated"`
	}
	err := ask(ctx, http.MethodPost, base, map[string]any{"sql": sql, "timeout": "2m", "max_rows": 100_000}, &answer)
	if err == nil && answer.Truncated {
		err = fmt.Errorf("the answer to %q was cut off", sql)
	}
	return answer.Rows, err
}

// ask sends a question to a sink and decodes the answer, numbers kept exact.
func ask(ctx context.Context, method, url string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s answered %s: %s", req.URL.Path, resp.Status, text)
	}
	dec := json.NewDecoder(resp.Body)
	dec.UseNumber()
	return dec.Decode(answer)
}
