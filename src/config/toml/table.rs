//! The macros that make sections of tables of keys.

/// Makes a section of one table of keys:
///
/// ```text
/// section! {
///     /// What the section is for.
///     #[derive(Debug, Clone, PartialEq)]
///     Name checked by function {
///         /// What the key means.
///         key: Kind = "its default, in TOML",
///         /// Another one, which must be there, and what to do where it is not.
///         field as "key-in-the-file": Kind = required "write …",
///         /// A key of sections that have the key `command`, only.
///         other of command: Kind,
///         /// A default that depends on where the gate runs.
///         computed: Kind = (expression()),
///     } with {
///         /// A section whose keys stand among those above.
///         group: Section,
///     }
/// }
/// ```
///
/// `Name` has a field of `Kind::Value` for each key, and `Fields<Name>` the same with their places;
/// `function` gets the latter before it becomes the former. With `file { … }` behind it there are
/// keys of `Fields<Name>` only, and with `besides Rest { … }` fields of `Name` only, which
/// `Name::new` takes. `section! { keys Name { … } }` makes the keys alone.
macro_rules! section {
    (
        $(#[doc = $about:literal])* $(#[derive $derive:tt])?
        $name:ident $(called $noun:literal)? $(checked by $check:path)? {
            $($(#[doc = $doc:literal])* $field:ident $(as $key:literal)?
                $(of $($of:ident)|+)?: $kind:ty $(= $default:tt $($help:expr)?)?,)*
        } $(with { $($(#[doc = $gdoc:literal])* $group:ident: $section:ty,)* })?
    ) => {
        $(#[doc = $about])* $(#[derive $derive])?
        pub struct $name {
            $($(#[doc = $doc])*
            pub $field: <$kind as $crate::config::toml::value::FromToml>::Value,)*
            $($($(#[doc = $gdoc])* pub $group: $section,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                $crate::config::toml::section::finished()
            }
        }

        const _: () = {
            use $crate::config::toml::{reader::Reader, section::Finish};

            section!(@keys Keys, $name, [$($about)*], [$($noun)?],
                [$({ [$($doc)*] $field [$($key)?] [$kind] [$($default $($help)?)?]
                    [$($($of)+)?] })*]
                [$($($group: $section,)*)?]);
            section!(@schema $name, Keys, [$($about),*]);

            impl Finish for $name {
                fn finish(
                    #[allow(unused_mut, unused_variables, reason = "not every section has a check")]
                    mut keys: Keys,
                    #[allow(unused_variables, reason = "not every section has a check")]
                    reader: &mut Reader<'_>,
                ) -> Self {
                    $($check(&mut keys, reader);)?
                    Self {
                        $($field: keys.$field.value,)*
                        $($($group: Finish::finish(keys.$group, reader),)*)?
                    }
                }
            }
        };
    };
    (
        $(#[doc = $about:literal])* $(#[derive $derive:tt])?
        $name:ident $(called $noun:literal)? {
            $($(#[doc = $doc:literal])* $field:ident $(as $key:literal)?
                $(of $($of:ident)|+)?: $kind:ty $(= $default:tt $($help:expr)?)?,)*
        } $(with { $($(#[doc = $gdoc:literal])* $group:ident: $section:ty,)* })?
        file {
            $($(#[doc = $fdoc:literal])* $ffield:ident $(as $fkey:literal)?
                $(of $($fof:ident)|+)?: $fkind:ty $(= $fdefault:tt $($fhelp:expr)?)?,)*
        } besides $rest:ident {
            $($(#[doc = $rdoc:literal])* $rfield:ident: $rtype:ty,)*
        }
    ) => {
        $(#[doc = $about])* $(#[derive $derive])?
        pub struct $name {
            $($(#[doc = $rdoc])* pub $rfield: $rtype,)*
            $($(#[doc = $doc])*
            pub $field: <$kind as $crate::config::toml::value::FromToml>::Value,)*
            $($($(#[doc = $gdoc])* pub $group: $section,)*)?
        }

        /// What only several keys together tell.
        struct $rest {
            $($rfield: $rtype,)*
        }

        impl $name {
            fn new(
                keys: $crate::config::toml::section::Fields<Self>,
                rest: $rest,
                #[allow(unused_variables, reason = "where there is a group")]
                reader: &mut $crate::config::toml::reader::Reader<'_>,
            ) -> Self {
                Self {
                    $($rfield: rest.$rfield,)*
                    $($field: keys.$field.value,)*
                    $($($group: $crate::config::toml::section::Finish::finish(
                        keys.$group, reader),)*)?
                }
            }
        }

        const _: () = {
            section!(@keys Keys, $name, [$($about)*], [$($noun)?],
                [$({ [$($doc)*] $field [$($key)?] [$kind] [$($default $($help)?)?]
                    [$($($of)+)?] })*
                 $({ [$($fdoc)*] $ffield [$($fkey)?] [$fkind] [$($fdefault $($fhelp)?)?]
                    [$($($fof)+)?] })*]
                [$($($group: $section,)*)?]);
            section!(@schema $name, Keys, [$($about),*]);
        };
    };
    (
        $(#[doc = $about:literal])* keys $name:ident $(called $noun:literal)? {
            $($(#[doc = $doc:literal])* $field:ident $(as $key:literal)?
                $(of $($of:ident)|+)?: $kind:ty $(= $default:tt $($help:expr)?)?,)*
        } $(with { $($group:ident: $section:ty,)* })?
    ) => {
        section!(@keys $name, $name, [$($about)*], [$($noun)?],
            [$({ [$($doc)*] $field [$($key)?] [$kind] [$($default $($help)?)?]
                    [$($($of)+)?] })*]
            [$($($group: $section,)*)?]);
        section!(@schema $name, $name, [$($about),*]);
    };
    (@keys $keys:ident, $name:ident, [$($about:literal)*], [$($noun:literal)?],
        [$({ [$($doc:literal)*] $field:ident $key:tt [$kind:ty] $default:tt
            [$($of:ident)*] })*]
        [$($group:ident: $section:ty,)*]
    ) => {
        $(#[doc = $about])*
        pub struct $keys {
            /// The place of the section, which is also that for what is missing in it.
            #[allow(dead_code, reason = "not every section asks")]
            pub at: std::ops::Range<usize>,
            $(pub $field: $crate::config::toml::section::Field<$kind>,)*
            $(pub $group: $crate::config::toml::section::Fields<$section>,)*
        }

        impl Default for $keys {
            fn default() -> Self {
                Self {
                    at: 0..0,
                    $($field: $crate::config::toml::section::Field::absent(
                        section!(@default $kind, $default)),)*
                    $($group: Default::default(),)*
                }
            }
        }

        impl std::fmt::Debug for $keys {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("at", &self.at).finish_non_exhaustive()
            }
        }

        impl $crate::config::toml::section::Keys for $keys {
            $(const NOUN: &'static str = $noun;)?

            fn table() -> Vec<$crate::config::toml::section::Key> {
                [
                    vec![$($crate::config::toml::section::Key {
                        name: section!(@name $field, $key),
                        doc: &[$($doc),*],
                        default: section!(@toml $default),
                        required: section!(@required $default),
                        kinds: &[$(stringify!($of)),*],
                        schema: <$kind as $crate::config::toml::value::FromToml>::schema,
                    },)*],
                    $(<$crate::config::toml::section::Fields<$section>
                        as $crate::config::toml::section::Keys>::table(),)*
                ].into_iter().flatten().collect()
            }

            fn fields(
                &mut self,
            ) -> Vec<(&'static str, &mut dyn $crate::config::toml::section::AnyField)> {
                [
                    vec![$((
                        section!(@name $field, $key),
                        &mut self.$field as &mut dyn $crate::config::toml::section::AnyField,
                    ),)*],
                    $($crate::config::toml::section::Keys::fields(&mut self.$group),)*
                ].into_iter().flatten().collect()
            }

            fn stands_at(&mut self, at: std::ops::Range<usize>) {
                $($crate::config::toml::section::Keys::stands_at(&mut self.$group, at.clone());)*
                self.at = at;
            }
        }

        impl $crate::config::toml::section::Section for $name {
            type Keys = $keys;
        }

        impl $crate::config::toml::value::FromToml for $keys {
            type Value = Self;

            fn read(
                node: &$crate::config::toml::reader::Node<'_>,
                reader: &mut $crate::config::toml::reader::Reader<'_>,
            ) -> Option<Self> {
                $crate::config::toml::section::read(node, None, reader)
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<$name>()
            }
        }
    };
    (@schema $name:ident, $keys:ident, [$($about:literal),*]) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let keys = <$keys as $crate::config::toml::section::Keys>::table();
                $crate::config::toml::section::schema(generator, &[$($about),*], &keys)
            }
        }
    };
    (@name $field:ident, []) => { stringify!($field) };
    (@name $field:ident, [$key:literal]) => { $key };
    (@default $kind:ty, []) => { Default::default() };
    (@default $kind:ty, [required $help:expr]) => { Default::default() };
    (@default $kind:ty, [($value:expr)]) => { $value };
    (@default $kind:ty, [$toml:tt]) => {
        $crate::config::toml::section::default::<$kind>(stringify!($toml))
    };
    (@toml []) => { None };
    (@toml [required $help:expr]) => { None };
    (@toml [($value:expr)]) => { None };
    (@toml [$toml:tt]) => { Some(stringify!($toml)) };
    (@required [required $help:expr]) => { Some($help) };
    (@required $other:tt) => { None };
}
pub(in crate::config) use section;

/// Makes a checked type of a section whose keys depend on its `kind`, the `oneOf` of its schema,
/// and the reading of it: each kind is a section of its own.
macro_rules! kinds {
    (
        $(#[doc = $about:literal])*
        $name:ident called $noun:literal {
            $($(#[doc = $doc:literal])* $word:literal: $section:ty => $make:expr,)*
        }
    ) => {
        const _: () = {
            use $crate::config::toml::{
                reader::{Node, Reader},
                section::{self, Fields, Finish, Keys, Tag},
                value::{FromToml, table},
            };

            impl FromToml for $name {
                type Value = Self;

                fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                    let at = reader.take_heading().unwrap_or_else(|| node.span());
                    let Some(word) = section::kind(node, $noun, &[$($word),*], &at, reader) else {
                        for (key, value) in table(node, reader)? {
                            let name = key.get_ref().as_ref();
                            let known = name == "kind"
                                $(|| section::try_key::<Fields<$section>>(name, value, reader))*;
                            if !known {
                                let keys = [$(<Fields<$section> as Keys>::table()),*];
                                let keys = keys.iter().flatten().map(|key| key.name);
                                let keys = ["kind"].into_iter().chain(keys).collect();
                                section::unknown(key, keys, reader);
                            }
                        }
                        return None;
                    };
                    reader.set_heading(at);
                    let others = [$(<Fields<$section> as Keys>::table()),*];
                    let others = others.into_iter().flatten().collect();
                    let tag = Tag { key: "kind", word, noun: $noun, others };
                    match word {
                        $($word => {
                            let keys = section::read::<Fields<$section>>(node, Some(&tag), reader)?;
                            let finish = |reader: &mut Reader<'_>| <$section>::finish(keys, reader);
                            Some(($make)(reader.judge(finish)))
                        })*
                        _ => None,
                    }
                }

                fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    generator.subschema_for::<Self>()
                }
            }

            impl schemars::JsonSchema for $name {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    let kinds = [$({
                        let keys = <Fields<$section> as Keys>::table();
                        let schema = section::schema(generator, &[$($doc),*], &keys);
                        section::tagged(schema, "kind", $word)
                    }),*];
                    schemars::json_schema!({
                        "description": section::prose(&[$($about),*]),
                        "oneOf": kinds,
                    })
                }
            }
        };
    };
}
pub(in crate::config) use kinds;
