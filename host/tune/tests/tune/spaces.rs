//! Spaces: what is read, what is refused, and what is a configuration.

use std::collections::BTreeMap;

use optwasm_tune::{Config, ConfigError, Domain, Parameter, Space, SpaceError, Value};

const FULL: &str = r#"
    [parameters.rate]
    type = "float"
    low = 1e-5
    high = 1
    log = true
    [parameters.optimizer]
    type = "categorical"
    values = ["sgd", "adam", true, 3]
    [parameters.momentum]
    type = "float"
    low = 0.0
    high = 1.0
    when = { optimizer = ["sgd"] }
    [parameters.nesterov]
    type = "ordinal"
    values = [0, 1]
    when = { optimizer = ["sgd", 3] }
    [parameters.decay]
    type = "int"
    low = 1
    high = 9
    when = { nesterov = [1], optimizer = ["sgd"] }
    [parameters.version]
    type = "constant"
    value = "x"
"#;

fn config(values: &[(&str, Value)]) -> Config {
    let values = values.iter().cloned();
    values
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[test]
fn toml_and_code_give_the_same_space() {
    let read = Space::from_toml(FULL).unwrap();
    let float = |low, high, log| Parameter::new(Domain::Float { low, high, log });
    let values = |values: &[Value]| values.to_vec();
    let optimizer = values(&["sgd".into(), "adam".into(), true.into(), 3.into()]);
    let nesterov = values(&[0.into(), 1.into()]);
    let int = Domain::Int {
        low: 1,
        high: 9,
        log: false,
    };
    let built = [
        ("rate", float(1e-5, 1.0, true)),
        (
            "optimizer",
            Parameter::new(Domain::Categorical { values: optimizer }),
        ),
        (
            "momentum",
            float(0.0, 1.0, false).when("optimizer", ["sgd"]),
        ),
        (
            "nesterov",
            Parameter::new(Domain::Ordinal { values: nesterov })
                .when("optimizer", [Value::from("sgd"), Value::from(3)]),
        ),
        (
            "decay",
            Parameter::new(int)
                .when("nesterov", [1])
                .when("optimizer", ["sgd"]),
        ),
        (
            "version",
            Parameter::new(Domain::Constant { value: "x".into() }),
        ),
    ];
    let built: BTreeMap<String, Parameter> = built
        .into_iter()
        .map(|(name, parameter)| (name.to_owned(), parameter))
        .collect();
    assert_eq!(read, Space::new(built).unwrap());
    // Conditions look back.
    let order: Vec<&str> = read.in_order().map(|(name, _)| name).collect();
    let place = |name| order.iter().position(|other| *other == name).unwrap();
    assert!(place("optimizer") < place("nesterov") && place("nesterov") < place("decay"));
}

#[test]
fn a_configuration_has_what_is_active_and_nothing_else() {
    let space = Space::from_toml(FULL).unwrap();
    let base = [("rate", 0.5.into()), ("version", "x".into())];
    let with = |more: &[(&str, Value)]| space.accept(&config(&[&base[..], more].concat()));
    let (sgd, adam) = (
        ("optimizer", Value::from("sgd")),
        ("optimizer", Value::from("adam")),
    );
    let momentum = || ("momentum", Value::from(0.5));
    let nesterov = |value: i64| ("nesterov", Value::from(value));
    assert!(with(std::slice::from_ref(&adam)).is_ok());
    assert!(with(&[sgd.clone(), momentum(), nesterov(0)]).is_ok());
    assert!(with(&[sgd.clone(), momentum(), nesterov(1), ("decay", 2.into())]).is_ok());
    assert!(with(&[("optimizer", 3.into()), nesterov(1)]).is_ok());
    let missing = with(&[sgd.clone(), momentum(), nesterov(1)]);
    assert_eq!(missing, Err(ConfigError::Missing("decay".to_owned())));
    let inactive = with(&[adam, momentum()]);
    assert_eq!(inactive, Err(ConfigError::Inactive("momentum".to_owned())));
    // An inactive parameter makes what is under it inactive.
    let nested = with(&[("optimizer", 3.into()), nesterov(1), ("decay", 2.into())]);
    assert_eq!(nested, Err(ConfigError::Inactive("decay".to_owned())));
    let outside = with(&[sgd, momentum(), nesterov(2)]).unwrap_err();
    assert_eq!(
        outside.to_string(),
        "parameter `nesterov` cannot be 2: it is one of 0, 1"
    );
    let misspelt = with(&[("optimiser", "sgd".into())])
        .unwrap_err()
        .to_string();
    assert_eq!(
        misspelt,
        "unknown parameter `optimiser`; did you mean `optimizer`?"
    );
}

#[test]
fn numbers_take_the_kind_of_their_parameter() {
    let space = "[parameters]\nf = { type = 'float', low = 0, high = 9 }\n\
                 i = { type = 'int', low = 0, high = 9 }\n\
                 o = { type = 'ordinal', values = [1.0, 2] }";
    let space = Space::from_toml(space).unwrap();
    let given = config(&[("f", 3.into()), ("i", 4.0.into()), ("o", 1.into())]);
    let expected = config(&[("f", 3.0.into()), ("i", 4.into()), ("o", 1.0.into())]);
    assert_eq!(space.accept(&given), Ok(expected));
    let half = config(&[("f", 3.into()), ("i", 4.5.into()), ("o", 1.into())]);
    assert!(space.accept(&half).is_err());
    let nan = config(&[("f", f64::NAN.into()), ("i", 4.into()), ("o", 1.into())]);
    assert!(space.accept(&nan).is_err());
}

#[test]
fn every_error_names_the_parameter_and_the_way_out() {
    let cases = [
        ("x", "TOML"),
        ("", "[parameters.NAME]"),
        (
            "parameter.x.type = 'int'",
            "unknown key `parameter`; did you mean `parameters`?",
        ),
        (
            "parameters = 3",
            "`parameters` must be tables of the form [parameters.NAME], not integer",
        ),
        (
            "parameters.x = 3",
            "`x` must be a table with a `type`, not integer",
        ),
        (
            "parameters.x.low = 1",
            "parameter `x`: key `type` is missing",
        ),
        (
            "parameters.x.type = 7",
            "parameter `x`: `type` must be a text, not integer",
        ),
        (
            "parameters.x.type = 'flaot'",
            "unknown type `flaot`; did you mean `float`?",
        ),
        (
            "parameters.x.type = 'polynomial'",
            "unknown type `polynomial`; there is float, int, categorical, ordinal, constant",
        ),
        (
            "parameters.x = { type = 'float', low = 1 }",
            "key `high` is missing",
        ),
        (
            "parameters.x = { type = 'float', low = 1, hihg = 2 }",
            "parameter `x`: unknown key `hihg`; did you mean `high`?",
        ),
        (
            "parameters.x = { type = 'float', low = 1, high = 2, step = 1 }",
            "unknown key `step`; there is low, high, log, type, when",
        ),
        (
            "parameters.x = { type = 'int', low = 1.5, high = 2 }",
            "parameter `x`: `low` must be a whole number, not float",
        ),
        (
            "parameters.x = { type = 'int', low = 2, high = 2 }",
            "type = \"constant\"",
        ),
        (
            "parameters.x = { type = 'int', low = 0, high = 2, log = true }",
            "above 0",
        ),
        (
            "parameters.x = { type = 'float', low = 0, high = 2, log = true }",
            "above 0",
        ),
        (
            "parameters.x = { type = 'float', low = 0, high = inf }",
            "finite",
        ),
        (
            "parameters.x = { type = 'float', low = nan, high = 1 }",
            "finite",
        ),
        (
            "parameters.x = { type = 'float', low = 0, high = 1, log = 1 }",
            "true or false",
        ),
        (
            "parameters.x = { type = 'categorical', values = [] }",
            "must not be empty",
        ),
        (
            "parameters.x = { type = 'categorical', values = [1, 2, 1.0] }",
            "1.0 stands in `values` twice",
        ),
        (
            "parameters.x = { type = 'categorical', values = 'a' }",
            "`values` must be a list",
        ),
        (
            "parameters.x = { type = 'categorical', values = [[1]] }",
            "made of texts",
        ),
        (
            "parameters.x = { type = 'ordinal', values = [nan] }",
            "not a finite number",
        ),
        (
            "parameters.x = { type = 'constant' }",
            "key `value` is missing",
        ),
    ];
    for (text, expected) in cases {
        let error = Space::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn conditions_that_can_never_hold_are_refused() {
    let error = |when: &str| {
        let text = format!(
            "[parameters]\nkind = {{ type = 'categorical', values = ['a', 'b'] }}\n\
             rate = {{ type = 'float', low = 0, high = 1 }}\n\
             x = {{ type = 'int', low = 0, high = 1, when = {when} }}"
        );
        Space::from_toml(&text).unwrap_err().to_string()
    };
    let cases = [
        ("{ kin = ['a'] }", "no such parameter; did you mean `kind`?"),
        (
            "{ kind = ['c'] }",
            "it cannot be \"c\": it is one of \"a\", \"b\"",
        ),
        ("{ kind = [] }", "names no values"),
        ("{ rate = [0.5] }", "a float has no values"),
        ("{ kind = 'a' }", "of the form { other = [\"value\"] }"),
        ("['kind']", "of the form { other = [\"value\"] }"),
        ("{ x = [1] }", "circle: x -> x"),
    ];
    for (when, expected) in cases {
        let error = error(when);
        assert!(error.contains(expected), "{when}: {error}");
    }
}

#[test]
fn a_circle_is_named() {
    let text = "[parameters]\n\
                a = { type = 'int', low = 0, high = 1, when = { b = [1] } }\n\
                b = { type = 'int', low = 0, high = 1, when = { c = [1], d = [1] } }\n\
                c = { type = 'int', low = 0, high = 1, when = { b = [0] } }\n\
                d = { type = 'int', low = 0, high = 1 }";
    let error = Space::from_toml(text).unwrap_err();
    let names = ["b", "c", "b"].map(str::to_owned).to_vec();
    assert_eq!(error, SpaceError::Circle(names));
}
