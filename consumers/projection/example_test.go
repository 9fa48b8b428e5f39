package projection_test

import (
	"fmt"
	"math/big"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
)

func Example() {
	catalogue, err := schemas.LoadDir("testdata/schemas")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := projection.Parse("account.yaml", []byte(`
entity: account
topic: bank.accounts
columns: {balance: "decimal(14,2)"}
on:
  bank.Deposited:
    set:
      balance: state.?balance.orValue(decimal(0)) + event.amount
      last: event.at
  bank.Closed: {delete: true}
cache: {keys: ["'account:' + key"]}
`), catalogue)
	if err != nil {
		fmt.Println(err)
		return
	}
	var s projection.State
	for seq, amount := range []string{"10.50", "0.25"} {
		r, _ := new(big.Rat).SetString(amount)
		deposit := consumers.Event{Key: "a-1", Type: "bank.Deposited", Seq: int64(seq + 1)}.WithFields(map[string]any{"amount": r, "at": noon})
		s, err = p.Fold(s, &deposit)
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	keys, err := p.CacheKeys("a-1", s)
	fmt.Println(p.Columns())
	fmt.Println(projection.Document(p.Columns(), s.Values))
	fmt.Println(keys, err)
	// Output:
	// [{balance decimal(14,2)} {last timestamp}]
	// map[balance:10.75 last:2026-05-01T12:00:00Z]
	// [account:a-1] <nil>
}

func ExampleParse_mistake() {
	catalogue, err := schemas.LoadDir("testdata/schemas")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = projection.Parse("account.yaml", []byte(`
entity: account
topic: bank.accounts
on:
  bank.Opened: {set: {owner: event.ownr}}
`), catalogue)
	fmt.Println(err)
	// Output:
	// account.yaml:5:30: on bank.Opened: set owner: bank.Opened has no field "ownr"; its fields are account, owner, note, kind, on, limit, home, tags, rates
}
