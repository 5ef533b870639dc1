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
        attributes = {s.NUM_ITERS: solution.get("iterations")}
        if solution.get("message"):
            attributes[s.EXTRA_STATS] = solution["message"]
        if status not in s.SOLUTION_PRESENT:
            return failure_solution(status, attributes)
        duals = {}
        if solution.get("duals"):
            # A dual is the rate at which the objective changes with the right-hand side; CVXPY's
            # multiplier has the other sign.
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
    program = {
        "P": matrix(sp.triu(quadratic)),
        "q": q.tolist(),
        "A": matrix(data[s.A]),
        "b": np.asarray(data[s.B], dtype=float).tolist(),
        "cones": cones,
    }
    return json.dumps(program)


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
    for j in range(a.shape[1]):
        lines.append(f" BV bnd x{j}" if j in booleans else f" FR bnd x{j}")
    lines.append("ENDATA")
    return "\n".join(lines) + "\n"
