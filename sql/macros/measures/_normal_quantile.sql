-- The standard normal distribution's quantile at p, for p from 0.5 to 1 − 1e-11.
--
-- Algorithm AS 241, PPND16, of M. J. Wichura, Applied Statistics 37 (1988): 16 digits. Its two
-- rational functions are evaluated by Horner's rule, as folds over their coefficients.
create or replace macro _normal_quantile(p) as case
    when p is null then
        null::double
    when (p between 0.5 and 1 - 1e-11) is distinct from true then
        error('A confidence is between 0 and 1 − 1e-11, such as 0.95.')::double
    when p <= 0.925 then
        (p - 0.5) * _polynomial(
            0.180625 - (p - 0.5) * (p - 0.5),
            [
                2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
                4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
                1.3314166789178437745e2, 3.3871328727963666080e0
            ]
        ) / _polynomial(
            0.180625 - (p - 0.5) * (p - 0.5),
            [
                5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
                2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
                4.2313330701600911252e1, 1.0
            ]
        )
    else
        _polynomial(
            sqrt(-ln(1 - p)) - 1.6,
            [
                7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
                4.63033784615654529590e0, 1.42343711074968357734e0
            ]
        ) / _polynomial(
            sqrt(-ln(1 - p)) - 1.6,
            [
                1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
                2.05319162663775882187e0, 1.0
            ]
        )
end;
