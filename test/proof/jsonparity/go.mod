module heymarket.dev/operator/test/proof/jsonparity

go 1.26.0

replace heymarket.dev/operator => ../../..

require (
	github.com/buger/jsonparser v1.6.1
	github.com/goccy/go-json v0.12.0
	github.com/json-iterator/go v1.1.12
	github.com/tidwall/gjson v1.20.0
	github.com/valyala/fastjson v1.6.10
	heymarket.dev/operator v0.0.0-00010101000000-000000000000
)

require (
	github.com/go-json-experiment/json v1.27.2 // indirect
	github.com/modern-go/concurrent v0.0.0-20180306012644-bacd9c7ef1dd // indirect
	github.com/modern-go/reflect2 v1.0.3-0.20250322232337-35a7c28c31ee // indirect
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.0 // indirect
)
