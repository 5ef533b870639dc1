"""CVXPY problems solved by optwasm: ``problem.solve(solver=OPTWASM())``.

Conic and quadratic programs go to the plugin ``conic``, mixed-integer linear programs to ``highs``.
They are solved on this machine, or by the coordinator that ``OPTWASM_CONNECT`` names. This file is
all that is needed beside the command ``optwasm``: copy it, or put its folder on ``PYTHONPATH``.

Options of the plugins are arguments of ``solve``, as in ``solve(solver=OPTWASM(), tol=1e-6)``;
``optwasm plugins conic`` and ``optwasm plugins highs`` list them. ``time_limit`` is in seconds.
"""

import json
import os
import subprocess
import tempfile

import numpy as np
import scipy.sparse as sp

import cvxpy.settings as s
from cvxpy.constraints import SOC, ExpCone, PowCone3D, PowConeND, SvecPSD
from cvxpy.error import SolverError
from cvxpy.reductions.solution import Solution, failure_solution
from cvxpy.reductions.solvers import utilities
from cvxpy.reductions.solvers.conic_solvers.conic_solver import ConicSolver
from cvxpy.utilities.psd_utils import TriangleKind


class OPTWASM(ConicSolver):
    """The solver, for ``problem.solve(solver=…)``."""

    MIP_CAPABLE = True
    BOUNDED_VARIABLES = True
    SUPPORTED_CONSTRAINTS = ConicSolver.SUPPORTED_CONSTRAINTS + [
        SOC,
        ExpCone,
        PowCone3D,
        PowConeND,
        SvecPSD,
    ]
    # HiGHS knows linear constraints only.
    MI_SUPPORTED_CONSTRAINTS = ConicSolver.SUPPORTED_CONSTRAINTS
    PSD_TRIANGLE_KIND = TriangleKind.UPPER
    PSD_SQRT2_SCALING = True
    EXP_CONE_ORDER = [0, 1, 2]

    STATUS_MAP = {
        "optimal": s.OPTIMAL,
        "optimal_inaccurate": s.OPTIMAL_INACCURATE,
        "infeasible": s.INFEASIBLE,
        "unbounded": s.UNBOUNDED,
        "infeasible_or_unbounded": s.INFEASIBLE_OR_UNBOUNDED,
        "iteration_limit": s.USER_LIMIT,
        "time_limit": s.USER_LIMIT,
        "fuel_limit": s.USER_LIMIT,
        "feasible": s.USER_LIMIT,
    }

    def __init__(self, program=None):
        """``program`` is the command; without it that in ``$OPTWASM``, or ``optwasm``."""
        super().__init__()
        self.program = program or os.environ.get("OPTWASM", "optwasm")

    def name(self):
        return "OPTWASM"

    def import_solver(self):
        """The solver is a command: there is nothing to import."""

    def cite(self, data):
        """What to cite: the solver behind the plugin."""
        return ""

    def supports_quad_obj(self):
        return True

    def apply(self, problem):
        data, inverse_data = super().apply(problem)
        data[s.BOOL_IDX] = [int(place[0]) for place in problem.x.boolean_idx]
        data[s.INT_IDX] = [int(place[0]) for place in problem.x.integer_idx]
        inverse_data["costs"] = data[s.C]
        return data, inverse_data

    def solve_via_data(self, data, warm_start, verbose, solver_opts, solver_cache=None):
        integers = set(data.get(s.BOOL_IDX, [])) | set(data.get(s.INT_IDX, []))
        if integers:
            plugin, text = "highs", mps_of(data, integers)
        else:
            plugin, text = "conic", json_of(data)
        command = [self.program, "solve", "-", "--plugin", plugin, "--output", "json"]
        for name, value in solver_opts.items():
            if name != "use_quad_obj":
                command += ["-o", f"{name}={str(value).lower() if value in (True, False) else value}"]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "solution.json")
            ran = subprocess.run(
                command + ["--solution", path], input=text.encode(), capture_output=True
            )
            if not os.path.exists(path):
                raise SolverError(ran.stderr.decode(errors="replace").strip() or "no answer")
            if verbose:
                print(ran.stdout.decode(errors="replace"), end="")
            with open(path) as file:
                return json.load(file)

    def invert(self, solution, inverse_data):
        status = self.STATUS_MAP.get(solution["status"], s.SOLVER_ERROR)
        values = solution.get("values") or []
        if status == s.USER_LIMIT and not values:
            status = s.SOLVER_ERROR
        size = len(inverse_data["costs"])
        if values and len(values) != size:
            # What a solver publishes before a limit ends it leaves out variables that are zero.
            dense = np.zeros(size)
            for name, value in zip(solution["variables"], values):
                dense[int(name[1:])] = value
            values = dense.tolist()
        attributes = {s.NUM_ITERS: solution.get("iterations")}
        if solution.get("message"):
            attributes[s.EXTRA_STATS] = solution["message"]
        if status not in s.SOLUTION_PRESENT:
            return failure_solution(status, attributes)
        duals = {}
        if solution.get("duals"):
            # A dual is the rate at which the objective changes with the right-hand side; CVXPY's
            # multiplier has the other sign.
            # Rows of bounds on variables, which come last, have no constraint of CVXPY's.
            z = -np.array(solution["duals"])
            zero = inverse_data[ConicSolver.DIMS].zero
            for part, constraints in (
                (z[:zero], inverse_data[self.EQ_CONSTR]),
                (z[zero:], inverse_data[self.NEQ_CONSTR]),
            ):
                duals.update(
                    utilities.get_dual_values(part, utilities.extract_dual_value, constraints)
                )
        return Solution(
            status,
            solution["objective"] + inverse_data[s.OFFSET],
            {inverse_data[self.VAR_ID]: np.array(values)},
            duals,
            attributes,
        )


def json_of(data):
    """The program in Clarabel's JSON form."""
    q = np.asarray(data[s.C], dtype=float)
    quadratic = data[s.P] if s.P in data else sp.csc_array((q.size, q.size))
    dims = data[ConicSolver.DIMS]
    cones = []
    if dims.zero:
        cones.append({"ZeroConeT": int(dims.zero)})
    if dims.nonneg:
        cones.append({"NonnegativeConeT": int(dims.nonneg)})
    cones += [{"SecondOrderConeT": int(size)} for size in dims.soc]
    cones += [{"PSDTriangleConeT": int(order)} for order in dims.psd]
    cones += [{"ExponentialConeT": []} for _ in range(dims.exp)]
    cones += [{"PowerConeT": float(alpha)} for alpha in dims.p3d]
    cones += [{"GenPowerConeT": [[float(alpha) for alpha in alphas], 1]} for alphas in dims.pnd]
    a, b = sp.csc_array(data[s.A]), np.asarray(data[s.B], dtype=float)
    lower, upper = bounds_of(data, q.size)
    # x <= upper and -x <= -lower, as rows of their own after all others.
    above, below = np.flatnonzero(np.isfinite(upper)), np.flatnonzero(np.isfinite(lower))
    if above.size or below.size:
        identity = sp.eye_array(q.size, format="csr")
        a = sp.vstack([a, identity[above], -identity[below]], format="csc")
        b = np.concatenate([b, upper[above], -lower[below]])
        cones.append({"NonnegativeConeT": int(above.size + below.size)})
    program = {
        "P": matrix(sp.triu(quadratic)),
        "q": q.tolist(),
        "A": matrix(a),
        "b": b.tolist(),
        "cones": cones,
    }
    return json.dumps(program)


def bounds_of(data, size):
    """Lower and upper bounds of the variables."""
    lower, upper = data.get(s.LOWER_BOUNDS), data.get(s.UPPER_BOUNDS)
    lower = np.full(size, -np.inf) if lower is None else np.asarray(lower, dtype=float)
    upper = np.full(size, np.inf) if upper is None else np.asarray(upper, dtype=float)
    return lower, upper


def matrix(values):
    """A sparse matrix, compressed by columns."""
    values = sp.csc_array(values)
    values.sum_duplicates()
    return {
        "m": int(values.shape[0]),
        "n": int(values.shape[1]),
        "colptr": values.indptr.tolist(),
        "rowval": values.indices.tolist(),
        "nzval": values.data.tolist(),
    }


def mps_of(data, integers):
    """A mixed-integer linear program as a free MPS file."""
    if s.P in data and data[s.P].nnz:
        raise SolverError("a mixed-integer program with a quadratic objective")
    equations = data[ConicSolver.DIMS].zero
    a = sp.csc_array(data[s.A])
    cost, b = np.asarray(data[s.C]), np.asarray(data[s.B])
    booleans = set(data.get(s.BOOL_IDX, []))
    lines = ["NAME cvxpy", "ROWS", " N obj"]
    lines += [f" {'E' if i < equations else 'L'} r{i}" for i in range(a.shape[0])]
    lines.append("COLUMNS")
    for j in range(a.shape[1]):
        if j in integers:
            lines.append(f" M{j} 'MARKER' 'INTORG'")
        lines.append(f" x{j} obj {float(cost[j])!r}")
        for place in range(a.indptr[j], a.indptr[j + 1]):
            lines.append(f" x{j} r{a.indices[place]} {float(a.data[place])!r}")
        if j in integers:
            lines.append(f" E{j} 'MARKER' 'INTEND'")
    lines.append("RHS")
    lines += [f" rhs r{i} {float(b[i])!r}" for i in range(a.shape[0])]
    lines.append("BOUNDS")
    lower, upper = bounds_of(data, a.shape[1])
    for j in range(a.shape[1]):
        low, high = lower[j], upper[j]
        if j in booleans:
            low, high = max(low, 0.0), min(high, 1.0)
        lines.append(f" MI bnd x{j}" if low == -np.inf else f" LO bnd x{j} {float(low)!r}")
        lines.append(f" PL bnd x{j}" if high == np.inf else f" UP bnd x{j} {float(high)!r}")
    lines.append("ENDATA")
    return "\n".join(lines) + "\n"
