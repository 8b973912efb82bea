"""The review page: a local web server that shows an audit's images one by one and keeps what people say of them."""
