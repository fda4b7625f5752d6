"""An embedded platform for one machine that speaks the REST interface of Apache OpenWhisk."""
