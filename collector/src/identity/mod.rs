//! Who a peer is: CA, certificates, tokens, operators.
