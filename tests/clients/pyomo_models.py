"""Pyomo models through its own interfaces to executables: `asl:optwasm-ampl`, and `ipopt`."""

import sys

import pyomo
import pyomo.environ as pyo
from pyomo.opt import TerminationCondition as Termination

failures = []


def check(what, condition, found):
    print(f"{'ok  ' if condition else 'FAIL'} {what}: {found}")
    if not condition:
        failures.append(what)


def near(value, expected, tolerance=1e-5):
    return value is not None and abs(value - expected) <= tolerance * max(1.0, abs(expected))


def linear(domain):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(domain=domain, bounds=(0, 3))
    m.y = pyo.Var(domain=domain, bounds=(0, None))
    m.first = pyo.Constraint(expr=2 * m.x + 2 * m.y <= 7)
    m.second = pyo.Constraint(expr=m.x + 3 * m.y <= 6)
    m.goal = pyo.Objective(expr=2 * m.x + 3 * m.y, sense=pyo.maximize)
    return m


def hs71():
    m = pyo.ConcreteModel()
    m.x = pyo.Var([1, 2, 3, 4], bounds=(1, 5), initialize={1: 1, 2: 5, 3: 5, 4: 1})
    x = m.x
    m.product = pyo.Constraint(expr=x[1] * x[2] * x[3] * x[4] >= 25)
    m.sphere = pyo.Constraint(expr=sum(x[i] ** 2 for i in x) == 40)
    m.goal = pyo.Objective(expr=x[1] * x[4] * (x[1] + x[2] + x[3]) + x[3])
    m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    return m


def solve(solver, model, **options):
    return solver.solve(model, load_solutions=True, options=options)


def main():
    for name in ("asl:optwasm-ampl", "asl:highs"):
        solver = pyo.SolverFactory(name)
        check(f"{name} is there", solver.available(exception_flag=False), solver.version())
        m = linear(pyo.Reals)
        m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
        m.rc = pyo.Suffix(direction=pyo.Suffix.IMPORT)
        results = solve(solver, m)
        condition = results.solver.termination_condition
        check(f"{name} LP ends", condition == Termination.optimal, condition)
        check(f"{name} LP", near(pyo.value(m.goal), 8.25), pyo.value(m.goal))
        check(f"{name} dual", near(m.dual[m.first], 0.75), m.dual[m.first])
        check(f"{name} dual", near(m.dual[m.second], 0.5), m.dual[m.second])
        m = linear(pyo.Integers)
        solve(solver, m, mip_rel_gap=0)
        check(f"{name} MILP", near(pyo.value(m.goal), 7), pyo.value(m.goal))

    solver = pyo.SolverFactory("asl:optwasm-ampl")
    m = linear(pyo.Reals)
    m.third = pyo.Constraint(expr=m.x + m.y >= 10)
    results = solver.solve(m, load_solutions=False)
    condition = results.solver.termination_condition
    check("infeasible LP", condition == Termination.infeasible, condition)
    m = linear(pyo.Integers)
    m.third = pyo.Constraint(expr=m.x + m.y >= 10)
    condition = solver.solve(m, load_solutions=False).solver.termination_condition
    check("infeasible MILP", condition == Termination.infeasible, condition)
    m = linear(pyo.Reals)
    m.first.deactivate()
    m.second.deactivate()
    condition = solver.solve(m, load_solutions=False).solver.termination_condition
    check("unbounded LP", condition == Termination.unbounded, condition)

    for solver in (pyo.SolverFactory("asl:optwasm-ampl"), pyo.SolverFactory("ipopt")):
        m = hs71()
        condition = solve(solver, m).solver.termination_condition
        check(f"{solver.name} HS71 ends", condition == Termination.optimal, condition)
        check(f"{solver.name} HS71", near(pyo.value(m.goal), 17.0140171), pyo.value(m.goal))
        check(f"{solver.name} dual", near(abs(m.dual[m.product]), 0.55229, 1e-3), m.dual[m.product])
        m = hs71()
        m.wrong = pyo.Constraint(expr=m.x[1] ** 2 + m.x[2] ** 2 <= 1)
        condition = solver.solve(m, load_solutions=False).solver.termination_condition
        check(f"{solver.name} infeasible NLP", condition == Termination.infeasible, condition)
        m = pyo.ConcreteModel()
        m.x = pyo.Var(initialize=1.0)
        m.y = pyo.Var(initialize=1.0)
        m.c = pyo.Constraint(expr=m.x * m.y >= 1)
        m.goal = pyo.Objective(expr=-m.x)
        condition = solver.solve(m, load_solutions=False).solver.termination_condition
        check(f"{solver.name} unbounded NLP", condition == Termination.unbounded, condition)
        m = hs71()
        results = solver.solve(m, load_solutions=False, options={"max_iter": 2})
        condition = results.solver.termination_condition
        check(f"{solver.name} iterations", condition == Termination.maxIterations, condition)

    m = hs71()
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 9))
    m.link = pyo.Constraint(expr=m.n * m.x[1] >= 2)
    try:
        pyo.SolverFactory("asl:optwasm-ampl").solve(m)
        check("mixed-integer NLP is refused", False, "solved")
    except Exception as error:
        check("mixed-integer NLP is refused", True, type(error).__name__)
    print(f"Pyomo {pyomo.version.version}: {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
