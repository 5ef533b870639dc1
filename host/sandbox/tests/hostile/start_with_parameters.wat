;; Exports `_start` with another type.
;; expect: rejected
;; because: `_start`
(module (memory (export "memory") 1) (func (export "_start") (param i32)))
