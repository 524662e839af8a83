//! The macro that makes enums of a few words of the file.

/// Makes an enum of a few words, each written once.
macro_rules! words {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }

        impl $crate::config::toml::value::FromToml for $name {
            type Value = Self;

            fn read(
                node: &$crate::config::toml::reader::Node<'_>,
                reader: &mut $crate::config::toml::reader::Reader<'_>,
            ) -> Option<Self> {
                let words = [$(($word, Self::$variant)),*];
                $crate::config::toml::value::word(node, &words, reader)
            }

            fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),*] })
            }
        }
    };
}
pub(in crate::config) use words;
