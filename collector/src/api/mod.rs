//! HTTP: the JSON API that people, pages and scripts share.
